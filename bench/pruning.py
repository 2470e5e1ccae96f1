"""What pruning costs a model of real text, what recovery brings back, and how fast half the width is.

    python bench/pruning.py weights MODEL SHARDS --out DIR [--seeds 0,1,2]
    python bench/pruning.py structured MODEL SHARDS --out DIR [--seeds 0,1,2] [--tokens 300000] [--keep 0.5] [--rate R]
    python bench/pruning.py speed --out DIR [--turns 7]

`weights`: perplexity on the shards' test split of magnitude, Wanda and SparseGPT at 50% and 2:4; ± is a 95% interval
over draws of calibration text (Student's t). `structured`: half the channels and half the heads (--keep), then one
number of operations spent in three ways: pruned and taught by the whole model, pruned and trained on text alone, and
the small shape trained from nothing. Counted are forward and backward passes of the student for each token
(`count.flops_per_token`), a forward pass of the teacher (a third of its flops_per_token) and one pass of the whole
model over the calibration text for each measurement, so the runs without a teacher see more tokens. `speed`: decoding
of random weights in the shape of SmolLM2-135M and of half its width, in turn. What is finished in --out is not done
again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

import torch
from intervals import half_width
from torch.nn import functional as F

from luhuo.compress.calibration import sequences
from luhuo.compress.measures.speed import speeds
from luhuo.core.artifact import produce
from luhuo.model.config import ModelConfig
from luhuo.model.count import flops_per_token, parameters
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.model.load import load_decoder
from luhuo.stages import configured

CALIBRATION = {"sequences": 64, "length": 256}
LENGTH = 256
SMOLLM2: dict[str, Any] = {
    "family": "llama",
    "qk_norm": "none",
    "vocab_size": 49152,
    "hidden_size": 576,
    "layers": 30,
    "heads": 9,
    "kv_heads": 3,
    "head_dim": 64,
    "intermediate_size": 1536,
}
HALF_WIDTH = {"hidden_size": 288, "heads": 3, "kv_heads": 3, "intermediate_size": 768}
"""Of nine heads four and a half cannot stay: three do, one for each key head."""


class Bench:
    """Runs stages into a folder, and keeps the perplexity of what they made."""

    def __init__(self, shards: str, out: Path, test_sequences: int) -> None:
        self.shards, self.out, self.count = shards, out, test_sequences
        self.file = out / "perplexity.json"
        self.known: dict[str, float] = json.loads(self.file.read_text()) if self.file.is_file() else {}

    def made(self, name: str, stage: str, **values: Any) -> str:
        """The folder of a stage's result, made now if it is not there."""
        return str(produce(stage, configured(stage, values), self.out / name).path)

    def perplexity(self, model: str) -> float:
        """On the same tokens of the test split for all."""
        if model not in self.known:
            decoder = load_decoder(model, dtype="fp32", device="cpu")
            assert decoder.tokenizer is not None
            ids = sequences(str(Path(self.shards) / "test"), decoder.tokenizer, self.count, LENGTH)
            total = 0.0
            with torch.no_grad():
                for rows in ids.split(16):
                    logits = decoder(rows[:, :-1])
                    total += float(F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum"))
            self.known[model] = math.exp(total / ids[:, 1:].numel())
            self.file.write_text(json.dumps(self.known, indent=1))
        return self.known[model]


def told(values: list[float]) -> str:
    """Mean and 95% interval."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:9.3f}         "
    return f"{mean:9.3f} ± {half_width(values):6.3f}"


def weights(bench: Bench, model: str, seeds: list[int]) -> None:
    """Magnitude, Wanda and SparseGPT at 50% and 2:4."""
    print(f"dense {bench.perplexity(model):9.3f}", flush=True)
    for label, how in (("50%", {"sparsity": 0.5}), ("2:4", {"pattern": "2:4"})):
        for method in ("magnitude", "wanda", "sparsegpt"):
            found = []
            for seed in seeds[: 1 if method == "magnitude" else None]:
                name = f"{method}-{label.replace(':', 'of').replace('%', '')}-{seed}"
                given = {} if method == "magnitude" else {"data": bench.shards, **CALIBRATION}
                made = bench.made(name, "prune", model=model, method=method, seed=seed, **how, **given)
                found.append(bench.perplexity(made))
            print(f"{label}  {method:<10} {told(found)}", flush=True)


def structured(bench: Bench, model: str, seeds: list[int], tokens: int, keep: float, rate: float) -> None:
    """Pruned and taught, pruned and trained, trained from nothing: as many operations each."""
    config = load_decoder(model, dtype="fp32", device="cpu").config
    sizes: dict[str, Any] = {
        "heads": max(config.kv_heads, round(config.heads * keep / config.kv_heads) * config.kv_heads),
        "intermediate_size": round(config.intermediate_size * keep),
    }
    small = config.model_copy(update=sizes)
    whole_flops, small_flops = flops_per_token(config, LENGTH), flops_per_token(small, LENGTH)
    measured = 2 * CALIBRATION["sequences"] * CALIBRATION["length"] * whole_flops / 3  # heads, then channels
    budget = tokens * (small_flops + whole_flops / 3) + measured
    alone = round((budget - measured) / small_flops)
    print(f"{sum(parameters(config).values()):,} → {sum(parameters(small).values()):,} parameters: {sizes}")
    print(
        f"{budget:.3g} operations: {tokens:,} tokens taught, {alone:,} untaught, {round(budget / small_flops):,} new"
    )
    print(f"whole model  {bench.perplexity(model):9.3f}", flush=True)
    rows: dict[str, list[float]] = {}
    given = {"shards": bench.shards, "tokenizer": model, "length": LENGTH, "batch": 8 * LENGTH, "eval_tokens": LENGTH}
    for seed in seeds:
        pruned = bench.made(
            f"pruned-{seed}",
            "prune",
            model=model,
            method="structured",
            data=bench.shards,
            seed=seed,
            **sizes,
            **CALIBRATION,
        )
        after = {**given, "model": pruned, "seed": seed, "learning_rate": rate}
        taught = bench.made(
            f"taught-{seed}", "pretrain-distill", teacher=model, teacher_dtype="fp32", tokens=tokens, **after
        )
        trained = bench.made(f"trained-{seed}", "pretrain", tokens=alone, **after)
        shape = {name: getattr(small, name) for name in ("layers", "hidden_size", "heads", "kv_heads", "head_dim")}
        shape["intermediate_size"] = small.intermediate_size
        new = bench.made(
            f"new-{seed}", "pretrain", shape=shape, seed=seed, tokens=round(budget / small_flops), **given
        )
        made = {
            "pruned, no training": pruned,
            "pruned, taught": taught,
            "pruned, trained": trained,
            "from nothing": new,
        }
        for name, folder in made.items():
            rows.setdefault(name, []).append(bench.perplexity(folder))
        print(f"after {len(rows['from nothing'])} seeds:", flush=True)
        for name, found in rows.items():
            print(f"  {name:<20} {told(found)}", flush=True)


def speed(turns: int) -> None:
    """Decoding at half the width, in turn with the whole."""
    models = {}
    for name, changes in (("whole", {}), ("half", HALF_WIDTH)):
        model = initialise(Decoder(ModelConfig.parse(SMOLLM2 | changes)), 0).to(torch.bfloat16).eval()
        models[name] = model
        print(f"{name}: {sum(p.numel() for p in model.parameters()):,} parameters")
    found = speeds(models, prompt=128, new=48, turns=turns)
    for name, one in found.models.items():
        ratios = ", ".join(f"{ratio:.2f}" for ratio in one.decode_ratios)
        print(f"{name}: decode {one.decode:.1f} tok/s, prefill {one.prefill:.0f}; decode ratios {ratios}")
    half = found.models["half"]
    print(f"half the width decodes {statistics.median(half.decode_ratios):.2f}x as fast")
    if found.beside_other_work:
        print("beside other work: take the ratio only")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("weights", "structured", "speed"))
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("shards", nargs="?", default="")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--tokens", type=int, default=300_000)
    parser.add_argument("--keep", type=float, default=0.5, help="share of heads and channels that stays")
    parser.add_argument("--rate", type=float, default=3e-4, help="peak learning rate after pruning")
    parser.add_argument("--test-sequences", type=int, default=128)
    parser.add_argument("--turns", type=int, default=7)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    seeds = [int(seed) for seed in given.seeds.split(",")]
    if given.what == "speed":
        speed(given.turns)
        return
    bench = Bench(given.shards, given.out, given.test_sequences)
    if given.what == "weights":
        weights(bench, given.model, seeds)
    else:
        structured(bench, given.model, seeds, given.tokens, given.keep, given.rate)


if __name__ == "__main__":
    main()
