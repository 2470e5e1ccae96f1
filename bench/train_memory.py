"""Peak memory of training, each case in a fresh process: against transformers, and against what the planner says.

    python bench/train_memory.py peers [--rows 1] [--length 2048] [--recompute none,full] [--steps 3]
    python bench/train_memory.py plan  [--cases 'NAME;…'] [--steps 3]

`peers`: SmolLM2-135M's shape with random weights, AdamW, fp32 master weights, products in bf16 (transformers by
autocast, with SDPA and fused AdamW; its gradient checkpointing where ours recomputes whole blocks). `plan`: the
trainer itself on random tokens, with a background checkpoint in the middle where the case says so.
The peak is the kernel's high-water mark of resident memory; beside it what there was before the model was built, and
the difference. Tokens per second are those of the last step.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SMOLLM2: dict[str, Any] = {
    "family": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "layers": 30,
    "heads": 9,
    "kv_heads": 3,
    "head_dim": 64,
    "intermediate_size": 1536,
    "qk_norm": "none",
}
MOE = {"experts": 8, "active": 2, "intermediate_size": 256, "shared_size": 256}
SHAPES: dict[str, dict[str, Any]] = {
    "3m": {"size": "3m", "vocab_size": 4096},
    "8.5m": {"size": "8.5m", "vocab_size": 8192},
    "30m": {"size": "30m", "vocab_size": 16384},
    "moe": {"size": "10m", "vocab_size": 8192, "moe": MOE},
}
CASES: dict[str, dict[str, Any]] = {
    "3m, 16 x 256": {"shape": "3m", "rows": 16, "length": 256},
    "3m, 64 x 256": {"shape": "3m", "rows": 64, "length": 256},
    "3m, 64 x 256, full": {"shape": "3m", "rows": 64, "length": 256, "recompute": "full"},
    "8.5m, 16 x 512, adamw": {"shape": "8.5m", "rows": 16, "length": 512, "optimiser": "adamw"},
    "8.5m, 4 x 2048": {"shape": "8.5m", "rows": 4, "length": 2048},
    "8.5m, 4 x 2048, full": {"shape": "8.5m", "rows": 4, "length": 2048, "recompute": "full"},
    "30m, 4 x 512, adamw": {"shape": "30m", "rows": 4, "length": 512, "optimiser": "adamw"},
    "30m, 8 x 1024": {"shape": "30m", "rows": 8, "length": 1024},
    "30m, 8 x 1024, selective": {"shape": "30m", "rows": 8, "length": 1024, "recompute": "selective"},
    "30m, 8 x 1024, full, adamw": {
        **{"shape": "30m", "rows": 8, "length": 1024},
        **{"recompute": "full", "optimiser": "adamw"},
    },
    "30m, 4 x 512, background": {"shape": "30m", "rows": 4, "length": 512, "background": True},
    "moe, 16 x 512": {"shape": "moe", "rows": 16, "length": 512},
    "moe, 16 x 512, full": {"shape": "moe", "rows": 16, "length": 512, "recompute": "full"},
}


def status(name: str) -> float:
    """Bytes of a line of the kernel's account of this process (VmRSS, VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def shape(name: str) -> Any:
    """The model's config of a shape."""
    from luhuo.model.config import ModelConfig, MoEConfig
    from luhuo.train.sizes import derive

    values = dict(SHAPES[name])
    experts = values.pop("moe", None)
    config: ModelConfig = derive(values["size"], values["vocab_size"]).model
    return config.model_copy(update={"moe": MoEConfig(**experts)}) if experts else config


class Noise:
    """Random tokens, the same in every step."""

    def __init__(self, vocabulary: int, rows: int, length: int) -> None:
        import numpy as np

        self.ids = np.random.default_rng(0).integers(0, vocabulary, (rows, length + 1))

    def __iter__(self) -> Any:
        while True:
            yield {"ids": self.ids}

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        pass


def trained(config: Any, case: dict[str, Any], steps: int) -> tuple[float, float]:
    """Train a few steps with the trainer; memory before the model was built, and tokens per second."""
    from luhuo.core.artifact import Workspace
    from luhuo.core.metrics import MetricsLog
    from luhuo.model.decoder import Decoder
    from luhuo.model.initialise import initialise
    from luhuo.train.config import TrainerConfig
    from luhuo.train.objective import CausalLM
    from luhuo.train.trainer import Trainer

    before = status("VmRSS")
    background = case.get("background", False)
    settings = TrainerConfig(
        steps=steps,
        optimiser=case.get("optimiser", "muon"),
        recompute=case.get("recompute", "none"),
        learning_rate=1e-4,
        dtype="bf16",
        background=background,
        checkpoint_every=steps - 1 if background else 0,
        checkpoint_every_s=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Workspace(Path(folder), MetricsLog(Path(folder) / "metrics.jsonl"))
        model = initialise(Decoder(config), 0)
        loader = Noise(config.vocab_size, case["rows"], case["length"])
        last = Trainer(model, CausalLM(), loader, settings, out).run()
    return before, last["tokens_per_s"]


def transformers_step(case: dict[str, Any], steps: int) -> tuple[float, float]:
    """The same steps with transformers."""
    import torch
    import transformers
    from transformers.models.llama import modeling_llama  # noqa: F401 (loaded before memory is looked at)

    before = status("VmRSS")
    settings = transformers.LlamaConfig(
        vocab_size=SMOLLM2["vocab_size"],
        hidden_size=SMOLLM2["hidden_size"],
        num_hidden_layers=SMOLLM2["layers"],
        num_attention_heads=SMOLLM2["heads"],
        num_key_value_heads=SMOLLM2["kv_heads"],
        head_dim=SMOLLM2["head_dim"],
        intermediate_size=SMOLLM2["intermediate_size"],
        tie_word_embeddings=True,
        attn_implementation="sdpa",
        use_cache=False,
    )
    model = transformers.LlamaForCausalLM(settings).train()
    if case["recompute"] == "full":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(0, settings.vocab_size, (case["rows"], case["length"] + 1))
    inputs, labels = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    seconds = 0.0
    for _ in range(steps):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(inputs, labels=labels, shift_labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - start
    return before, inputs.numel() / seconds


def worker(side: str, case: dict[str, Any], steps: int) -> None:
    """One case in this process; prints JSON."""
    import torch

    torch.manual_seed(0)
    found: dict[str, float] = {}
    if side == "transformers":
        before, rate = transformers_step(case, steps)
    else:
        import luhuo.train.trainer  # noqa: F401 (loaded before memory is looked at)
        from luhuo.model.config import ModelConfig
        from luhuo.train.plan.memory import Run, memory

        config = ModelConfig(**SMOLLM2) if "shape" not in case else shape(case["shape"])
        before, rate = trained(config, case, steps)
        run = Run(
            config,
            case["rows"],
            case["length"],
            case.get("optimiser", "muon"),
            case.get("recompute", "none"),
            background=case.get("background", False),
        )
        found["predicted"] = memory(run).peak
    print(json.dumps({"peak": status("VmHWM"), "before": before, "tokens_per_s": rate, **found}))


def fresh(side: str, case: dict[str, Any], steps: int) -> dict[str, float]:
    """What a fresh process measures. This one imports nothing large, and no child begins with much."""
    command = [sys.executable, __file__, "worker", side, json.dumps(case), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def peers(options: argparse.Namespace) -> None:
    """Luhuo against transformers, whole and without what was there before the model."""
    print("| recompute | side | peak MB | before the model | difference | tokens/s |\n" + "| --- " * 6 + "|")
    for recompute in options.recompute.split(","):
        case = {"rows": options.rows, "length": options.length, "recompute": recompute, "optimiser": "adamw"}
        found = {side: fresh(side, case, options.steps) for side in ("luhuo", "transformers")}
        for side, row in found.items():
            mb = [f"{value / 1e6:,.0f}" for value in (row["peak"], row["before"], row["peak"] - row["before"])]
            print(f"| {recompute} | {side} | {' | '.join(mb)} | {row['tokens_per_s']:,.0f} |")
        ours, theirs = found["luhuo"], found["transformers"]
        whole = ours["peak"] / theirs["peak"]
        net = (ours["peak"] - ours["before"]) / (theirs["peak"] - theirs["before"])
        speed = ours["tokens_per_s"] / theirs["tokens_per_s"]
        print(f"| {recompute} | luhuo / transformers | {whole:.0%} | | {net:.0%} | {speed:.2f} |", flush=True)


def plan(options: argparse.Namespace) -> None:
    """Predicted against measured peaks."""
    print("| run | predicted MB | measured MB | difference |\n| --- | --- | --- | --- |")
    worst = 0.0
    for name in options.cases.split(";") if options.cases else CASES:
        row = fresh("luhuo", CASES[name], options.steps)
        off = row["predicted"] / row["peak"] - 1
        worst = max(worst, abs(off))
        print(f"| {name} | {row['predicted'] / 1e6:,.0f} | {row['peak'] / 1e6:,.0f} | {off:+.0%} |", flush=True)
    print(f"largest difference: {worst:.0%}")


def main() -> None:
    if sys.argv[1:2] == ["worker"]:
        worker(sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("peers", "plan"))
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--recompute", default="none,full")
    parser.add_argument("--cases", default="", help="separated by ';'")
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    (peers if options.what == "peers" else plan)(options)


if __name__ == "__main__":
    main()
