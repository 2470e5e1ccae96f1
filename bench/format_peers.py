"""Directories that we write as GPTQ, AWQ and bitsandbytes, opened by GPTQModel and by transformers with bitsandbytes.

    python bench/format_peers.py --peer-python PATH [--only gptq,awq,bitsandbytes]

PATH: Python of an environment with gptqmodel and bitsandbytes (CPU). A tiny random Llama is rounded in each way; the
peer says how far its logits (computed in bf16, or with 8-bit inputs by bitsandbytes) are from those of the same
numbers in fp32 here, and the largest difference of one matrix' numbers.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.format_cases import dense_model, kept_by, logits, moved, rounded, small, write

from luhuo.export import export
from luhuo.model.grid import Grid
from luhuo.model.matrices import Kept

SIZES = {"hidden_size": 128, "intermediate_size": 256, "heads": 4, "kv_heads": 2, "head_dim": 32}
CASES = {
    "gptq": {
        "4 bits": (Grid(4, 32), rounded),
        "4 bits, zeros": (Grid(4, 32, False), rounded),
        "4 bits, moved columns": (Grid(4, 32), moved),
        "8 bits": (Grid(8, 32), rounded),
        "3 bits": (Grid(3, 32), rounded),
        "2 bits": (Grid(2, 32), rounded),
    },
    "awq": {"4 bits": (Grid(4, 32), rounded), "4 bits, zeros": (Grid(4, 32, False), rounded)},
    "bitsandbytes": {"8 bits": (Grid(8, None), rounded)},
}
PEER = """
import sys, torch
method, folder, expected = sys.argv[1:]
told = torch.load(expected, weights_only=True)
if method == "bitsandbytes":
    import transformers
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, device_map="cpu")
else:
    from gptqmodel import BACKEND, GPTQModel
    backend = BACKEND.TORCH if method == "gptq" else BACKEND.TORCH_AWQ
    model = GPTQModel.load(folder, device="cpu", backend=backend, dtype=torch.bfloat16).model
layer = model.model.layers[1].mlp.down_proj
with torch.no_grad():
    off = float((model(told["ids"]).logits.float() - told["logits"]).abs().max())
weight = None
if method == "bitsandbytes":
    scales = layer.state.SCB if layer.weight.SCB is None else layer.weight.SCB  # moved by the first pass
    weight = layer.weight.data.float() * scales[:, None] / 127
elif hasattr(layer, "dequantize_weight"):
    weight = layer.dequantize_weight().float().T
exact = "not asked" if weight is None else float((weight - told["weight"]).abs().max())
largest = float(told["logits"].abs().max())
print(f"{type(layer).__name__}: logits off by {off:.4f} of {largest:.2f}, numbers by {exact}")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--tokenizer", type=Path, help="a folder with tokenizer files, which GPTQModel wants to see")
    given = parser.parse_args()
    for method in given.only.split(","):
        for title, (grid, change) in CASES[method].items():
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                model = small(**SIZES).bfloat16().float()
                kept = kept_by(model, lambda _, weight, grid=grid, change=change: Kept(change(weight, grid)))
                write(model, kept, folder / "in", torch.bfloat16)
                export(str(folder / "in"), method, None, folder / "out")
                if given.tokenizer:
                    for file in given.tokenizer.glob("tokenizer*.json"):
                        shutil.copyfile(file, folder / "out" / file.name)
                dense = dense_model(model, kept)
                ids = torch.randint(96, (2, 20), generator=torch.Generator().manual_seed(2))
                weight = dense.get_parameter("blocks.1.mlp.down.weight").detach()
                torch.save({"ids": ids, "logits": logits(dense), "weight": weight}, folder / "expected.pt")
                command = [given.peer_python, "-c", PEER, method, str(folder / "out"), str(folder / "expected.pt")]
                found = subprocess.run(command, capture_output=True, text=True)
                lines = (found.stdout if found.returncode == 0 else found.stderr).strip().splitlines()
                print(f"{method}, {title}: {lines[-1] if lines else found.returncode}", flush=True)


if __name__ == "__main__":
    main()
