"""Training with rounded matrices against rounding after training, at few bits and on equal data.

    python bench/qat.py MODEL RUN [--bits 3,2] [--group 64] [--seeds 0,1,2] [--steps 300] [--batch 4096]
        [--rate 0.001] [--embedding-rate 3] [--step-rate 1] [--share 0.5] [--sequences 64] [--kb 60] [--out DIR]
        [--arms rtn,gptq,tuned,ste,lsq,lsq-taught,lsq-gptq,lsq-gptq-taught]

MODEL is a trained model in full precision, RUN the folder of its recipe's run (shards, tokenizer, text). Arms:

- `rtn`, `gptq`: MODEL rounded to the nearest, and by GPTQ with texts of the training split;
- `tuned`: MODEL trained on for as many steps as the arms below on the same batches, then `gptq`: what further training
  alone brings;
- `ste`, `lsq`: the same steps with rounded matrices (scales found anew in each step; learned);
- `lsq-taught`: `lsq` with MODEL as the teacher beside it;
- `lsq-gptq`, `lsq-gptq-taught`: the same two, beginning with the directory of `gptq`: its integers and its scales.

Perplexity of held-out documents (test split) of the directories as written. Seeds choose the order of the training
data and the texts of calibration. Intervals are 95%, by bootstrap over the documents, whose values are means over the
seeds; a change is against MODEL on the same documents. What is there already is not made again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from luhuo.core.artifact import produce
from luhuo.core.atomic import write_json
from luhuo.evaluation.perplexity import document_bits
from luhuo.files.readers import read_records
from luhuo.files.records import Record
from luhuo.model.load import load_decoder
from luhuo.stages import configured

TRAINED = ("ste", "lsq", "lsq-taught", "lsq-gptq", "lsq-gptq-taught")
SEEDLESS = ("rtn",)
RESAMPLES = 4000


def texts(run: Path, kilobytes: int) -> list[str]:
    """Held-out documents, up to so much of each source."""
    found: list[str] = []
    sizes: dict[str, int] = defaultdict(int)
    for record in read_records(run / "text" / "documents" / "test.jsonl.zst"):
        if isinstance(record, Record) and sizes[record.fields["source"]] < 1000 * kilobytes:
            sizes[record.fields["source"]] += len(record.text.encode())
            found.append(record.text)
    return found


def made(name: str, values: dict[str, Any], out: Path) -> Path:
    """The result of a stage, made if it is not there."""
    produce(name, configured(name, values), out)
    return out


def training(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Settings that all trained arms share."""
    return {
        "model": str(options.model),
        "shards": str(options.run / "shards"),
        "tokenizer": str(options.run / "tokenizer"),
        "steps": options.steps,
        "length": options.length,
        "batch": options.batch,
        "learning_rate": options.rate,
        "embedding_rate": options.embedding_rate,
        "schedule": "linear",
        "warmup": 0.05,
        "eval_tokens": 8192,
        "eval_every": options.steps,
        "device": "cpu",
        "threads": options.threads,
        "seed": seed,
    }


def directory(arm: str, bits: int, seed: int, options: argparse.Namespace) -> Path:
    """The quantised directory of an arm."""
    name = f"{arm}-{bits}-{seed}"
    rounding = {"bits": bits, "group": options.group}
    if arm in TRAINED:
        method = arm.partition("-")[0]
        if method == "lsq":
            rounding |= {"step_rate": options.step_rate}
        values = training(options, seed) | {"quantisation": rounding | {"method": method}}
        if "gptq" in arm:
            values |= {"model": str(directory("gptq", bits, seed, options))}
        if arm.endswith("taught"):
            taught = {"teacher": str(options.model), "share": options.share}
            return made("pretrain-distill", values | taught, options.out / name)
        return made("pretrain", values, options.out / name)
    source = options.model
    if arm == "tuned":
        source = made("pretrain", training(options, seed), options.out / f"more-{seed}")
    values = rounding | {"model": str(source), "method": "rtn" if arm == "rtn" else "gptq", "seed": seed}
    if arm != "rtn":
        values |= {"data": str(options.run / "shards"), "sequences": options.sequences, "length": options.length}
    return made("quantize", values, options.out / name)


def bits_of(folder: Path, key: str, given: list[str], options: argparse.Namespace) -> tuple[list[float], list[int]]:
    """Bits of each document and its tokens under the model in `folder`; kept under `key`."""
    kept = options.out / "scores" / f"{key}-{options.kb}.json"
    if not kept.is_file():
        bits, tokens = document_bits(load_decoder(folder, dtype="fp32", device="cpu"), given)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, {"bits": bits, "tokens": tokens})
    found = json.loads(kept.read_text(encoding="utf-8"))
    return found["bits"], found["tokens"]


def change(bits: np.ndarray, base: np.ndarray, tokens: np.ndarray) -> tuple[float, float, float]:
    """Perplexity over that of the base, less one, with its interval over the documents."""
    random = np.random.default_rng(0)
    drawn = random.integers(0, len(tokens), (RESAMPLES, len(tokens)))
    ratios = (bits - base)[drawn].sum(1) / tokens[drawn].sum(1)
    low, high = np.exp2(np.quantile(ratios, [0.025, 0.975])) - 1
    return 2 ** ((bits - base).sum() / tokens.sum()) - 1, float(low), float(high)


def effect(options: argparse.Namespace) -> None:
    """Make what is not there, and print a table."""
    given = texts(options.run, options.kb)
    base, counts = (np.array(values) for values in bits_of(options.model, "model", given, options))
    perplexity = 2 ** (base.sum() / counts.sum())
    seeds = [int(seed) for seed in options.seeds.split(",")]
    print(f"MODEL: perplexity {perplexity:.3f} on {len(given)} documents, {counts.sum():,} tokens", flush=True)
    print(f"{'bits':>4}  {'arm':12} {'perplexity':>10} {'change and interval':>32}  by seed", flush=True)
    for bits in (int(bits) for bits in options.bits.split(",")):
        means: dict[str, np.ndarray] = {}
        for arm in options.arms.split(","):
            by_seed = []
            for seed in seeds[:1] if arm in SEEDLESS else seeds:
                folder = directory(arm, bits, seed, options)
                by_seed.append(bits_of(folder, f"{arm}-{bits}-{seed}", given, options)[0])
            mean = np.array([statistics.mean(values) for values in zip(*by_seed, strict=True)])
            means[arm] = mean
            middle, low, high = change(mean, base, counts)
            each = ", ".join(f"{2 ** (math.fsum(one) / counts.sum()):.3f}" for one in by_seed)
            told = f"{middle:+.2%} [{low:+.2%}, {high:+.2%}]"
            print(f"{bits:>4}  {arm:12} {perplexity * (1 + middle):>10.3f} {told:>32}  {each}", flush=True)
        for arm in [arm for arm in means if arm in TRAINED and "gptq" in means]:
            middle, low, high = change(means[arm], means["gptq"], counts)
            print(f"{bits:>4}  {arm} against gptq: {middle:+.2%} [{low:+.2%}, {high:+.2%}]", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--bits", default="3,2")
    parser.add_argument("--group", type=int, default=64)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=4096, help="tokens a step")
    parser.add_argument("--length", type=int, default=256, help="tokens a row")
    parser.add_argument("--sequences", type=int, default=64, help="of calibration, of as many tokens as a row")
    parser.add_argument("--rate", type=float, default=0.001, help="peak learning rate of all trained arms")
    parser.add_argument("--embedding-rate", type=float, default=3.0, help="rate of embedding and norms over --rate")
    parser.add_argument("--step-rate", type=float, default=1.0, help="rate of learned scales over --rate")
    parser.add_argument("--share", type=float, default=0.5, help="of the teacher in the loss, where there is one")
    parser.add_argument("--arms", default="rtn,gptq,tuned,ste,lsq,lsq-taught")
    parser.add_argument("--kb", type=int, default=60, help="kilobytes of each source that are scored")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/qat"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    effect(options)


if __name__ == "__main__":
    main()
