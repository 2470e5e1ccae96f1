"""Layer errors of our GPTQ, AWQ and SmoothQuant beside llm-compressor's, at equal settings and on equal text.

    python bench/quantisation_peers.py MODEL SHARDS --peer-python PYTHON [--methods gptq,awq,smoothquant]
        [--bits 4,3] [--group 64] [--sequences 32] [--length 256] [--seeds 0,1,2] [--out DIR]

PYTHON is an interpreter that has llmcompressor, torch and transformers. Both sides get the same token sequences. Each
block is then given what the original's block is given on other text; its error is the squared error of what it adds to
the stream, over the square of that. The table has the mean over blocks and tokens, by method, bits and seed, and ours
over theirs. SmoothQuant is W8A8 with α = 0.5 and plain rounding; its inputs are rounded in fp32 on both sides. What is
finished in --out is not done again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

PEER = """
import json, shutil, sys
from pathlib import Path
import torch, transformers
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import fake_quantize
from datasets import Dataset
from llmcompressor import oneshot
from safetensors.torch import load_file, save_file

if not torch.accelerator.is_available():
    torch.Tensor.pin_memory = lambda tensor, *ignored: tensor  # its AWQ pins memory on a CPU too, which fails there
told = json.loads(sys.argv[1])
torch.manual_seed(told["seed"])
model = transformers.AutoModelForCausalLM.from_pretrained(told["model"], dtype=torch.float32)
ids = load_file(told["ids"])["ids"]
data = Dataset.from_dict({"input_ids": ids.tolist(), "attention_mask": torch.ones_like(ids).tolist()})
weights = QuantizationArgs(num_bits=told["bits"], type="int", symmetric=told["symmetric"],
                           strategy="group", group_size=told["group"])
if told["method"] == "gptq":
    from llmcompressor.modifiers.quantization import GPTQModifier
    groups = {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}
    recipe = [GPTQModifier(config_groups=groups, ignore=["lm_head"], actorder="static", dampening_frac=0.01)]
elif told["method"] == "awq":
    try:
        from llmcompressor.modifiers.transform.awq import AWQModifier
    except ImportError:
        from llmcompressor.modifiers.awq import AWQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    groups = {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}
    try:
        recipe = [AWQModifier(duo_scaling="both"), QuantizationModifier(config_groups=groups, ignore=["lm_head"])]
    except Exception:
        recipe = [AWQModifier(config_groups=groups, ignore=["lm_head"], duo_scaling="both")]
else:
    try:
        from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
    except ImportError:
        from llmcompressor.modifiers.smoothquant import SmoothQuantModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    recipe = [SmoothQuantModifier(smoothing_strength=0.5), QuantizationModifier(scheme="W8A8", ignore=["lm_head"])]
oneshot(model=model, dataset=data, recipe=recipe, max_seq_length=ids.shape[1], num_calibration_samples=len(ids))
tensors = {}
with torch.no_grad():
    for name, module in model.named_modules():
        scheme = getattr(module, "quantization_scheme", None)
        if scheme is not None and scheme.weights is not None:
            module.weight.copy_(fake_quantize(module.weight, module.weight_scale,
                                              getattr(module, "weight_zero_point", None), scheme.weights))
names = set(load_file(Path(told["model"], "model.safetensors")))
state = {name: value.detach().contiguous().clone() for name, value in model.state_dict().items() if name in names}
out = Path(told["out"])
out.mkdir(parents=True)
for file in Path(told["model"]).iterdir():
    if file.suffix in (".json", ".jinja") and file.name != "manifest.json":
        shutil.copy(file, out)
save_file(state, out / "model.safetensors", {"format": "pt"})
"""


def ours(options: argparse.Namespace, method: str, bits: int, seed: int) -> Path:
    """What stage `quantize` makes of the model."""
    from luhuo.core.artifact import produce
    from luhuo.stages import configured

    out = options.out / f"ours-{method}-{bits}-{seed}"
    if not out.is_dir():
        values: dict[str, Any] = {"model": str(options.model), "data": str(options.shards), "method": method}
        values |= {"sequences": options.sequences, "length": options.length, "seed": seed}
        if method == "smoothquant":
            values |= {"smoothing": 0.5}
        else:
            values |= {"bits": bits, "group": options.group, "symmetric": method == "gptq"}
        produce("quantize", configured("quantize", values), out)
    return out


def theirs(options: argparse.Namespace, method: str, bits: int, seed: int, ids: Path) -> Path:
    """What llm-compressor makes of it, as a directory of plain weights."""
    out = options.out / f"theirs-{method}-{bits}-{seed}"
    if not out.is_dir():
        told = {"model": str(options.model), "ids": str(ids), "method": method, "bits": bits, "seed": seed}
        told |= {"group": options.group, "symmetric": method == "gptq", "out": str(out) + ".partial"}
        shutil.rmtree(told["out"], ignore_errors=True)
        subprocess.run([options.peer_python, "-c", PEER, json.dumps(told)], check=True)
        Path(told["out"]).replace(out)
    return out


def block_errors(original: Path, changed: Path, ids: Any, *, round_inputs: bool) -> list[float]:
    """The error of each block, given what the original's block is given; both in fp32."""
    import torch

    from luhuo.compress.w8a8 import by_token, rounded_inputs
    from luhuo.model.layers import Linear
    from luhuo.model.load import load_decoder

    whole, other = (load_decoder(folder, "fp32", "cpu").eval() for folder in (original, changed))
    if round_inputs:
        for name, module in other.named_modules():
            if type(module) is Linear and name.startswith("blocks."):
                module.register_forward_pre_hook(lambda _, inputs: (rounded_inputs(inputs[0], by_token(inputs[0])),))
    sums = [[0.0, 0.0] for _ in whole.blocks]
    for place, block in enumerate(whole.blocks):

        def compare(_: Any, inputs: Any, result: Any, place: int = place) -> None:
            found = other.blocks[place](*inputs)
            sums[place][0] += float((found - result).square().sum())
            sums[place][1] += float((result - inputs[0]).square().sum())

        block.register_forward_hook(compare)
    with torch.inference_mode():
        for row in ids:
            whole.hidden(row[None])
    return [error / size for error, size in sums]


def main() -> None:
    """Make what is missing, and print the table."""
    from safetensors.torch import save_file

    from luhuo.compress.calibration import sequences
    from luhuo.model.load import read_tokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--methods", default="gptq,awq,smoothquant")
    parser.add_argument("--bits", default="4,3")
    parser.add_argument("--group", type=int, default=64)
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path, default=Path("peers"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = read_tokenizer(options.model, None)
    other = sequences(str(options.shards), tokenizer, 16, options.length, 1000)
    print("| method | bits | seed | ours | llm-compressor | ours / theirs |\n|---|---|---|---|---|---|")
    for method in options.methods.split(","):
        for bits in [8] if method == "smoothquant" else [int(part) for part in options.bits.split(",")]:
            for seed in [int(part) for part in options.seeds.split(",")]:
                ids = options.out / f"ids-{seed}.safetensors"
                save_file(
                    {"ids": sequences(str(options.shards), tokenizer, options.sequences, options.length, seed)}, ids
                )
                folders = ours(options, method, bits, seed), theirs(options, method, bits, seed, ids)
                errors = [
                    block_errors(options.model, folder, other, round_inputs=method == "smoothquant")
                    for folder in folders
                ]
                means = [sum(part) / len(part) for part in errors]
                told = f"{means[0]:.5f} | {means[1]:.5f} | {means[0] / means[1]:.3f}"
                print(f"| {method} | {bits} | {seed} | {told} |", flush=True)


if __name__ == "__main__":
    main()
