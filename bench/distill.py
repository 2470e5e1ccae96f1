"""Distillation: does a small model learn more with a teacher than without?

    python bench/distill.py RUN [--seeds 0,1,2] [--steps 500] [--conversations 1000] [--questions 7000] [--items 1000]
        [--arms alone,taught,answers] [--out DIR] [--set share=0.9 …]

The teacher is the assistant of a quickstart run (RUN/assistant). A student of about a third of its parameters, with
the same tokenizer, is pretrained briefly on the run's shards. From it models are fine-tuned for the same number of
steps: `alone` on some conversations; `taught` on the same batches of the same conversations, and by what the teacher
holds likely (stage `distill`); `answers` on the same conversations and what the teacher answers to further questions,
whose right answers nobody tells (stage `teacher-answers`). All answer the test split greedily; its entities and
wordings never occur in training. Intervals are 95%, by bootstrap over the items, whose values are means over the
seeds; the differences are paired.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STUDENT: dict[str, Any] = {"size": "1m", "tokens": 800_000, "eval_tokens": 4096, "threads": 1, "length": 256}
LEARNING: dict[str, Any] = {"batch": 2048, "length": 256, "learning_rate": 0.006, "threads": 1}
ASKING: dict[str, Any] = {"samples": 1, "max_tokens": 80, "at_once": 128, "device": "cpu", "threads": 1}
TEACHING: dict[str, Any] = {"share": 0.9, "distill_temperature": 1.0}


def made(name: str, values: dict[str, Any], out: Path) -> float:
    """Run a stage into `out`; processor seconds, 0 if it was there already."""
    from luhuo.core.artifact import produce
    from luhuo.stages import configured

    start = time.process_time()
    produce(name, configured(name, values), out)
    return time.process_time() - start


def right(folder: Path, items: list[dict[str, Any]]) -> list[float]:
    """1 for each item answered rightly, else 0."""
    from luhuo.evaluation.families import Asking, ask
    from luhuo.inference.engine import Engine
    from luhuo.model.load import load_decoder

    engine = Engine(load_decoder(folder, dtype="fp32", device="cpu").eval(), max_batch=64)
    return [float(record["correct"]) for record in ask(engine, items, Asking("chat", 80, {}))]


def chosen(path: Path, count: int) -> list[dict[str, Any]]:
    """Items from all over a file, so that every family is among them."""
    with path.open(encoding="utf-8") as handle:
        rows = [json.loads(line) for line in handle]
    return rows[:: max(1, len(rows) // count)][:count]


def show(name: str, runs: list[list[float]], seconds: float, weights: int) -> None:
    """One line: the share of right answers with its interval over the items."""
    from luhuo.verify.statistics import bootstrap_mean

    found = bootstrap_mean([statistics.mean(values) for values in zip(*runs, strict=True)], seed=0)
    shown = f"{100 * found.mean:5.1f} [{100 * found.low:5.1f}, {100 * found.high:5.1f}]"
    print(f"{name:22} {weights:>10,} {shown:>24} {seconds:8.0f}", flush=True)


def parameters(folder: Path) -> int:
    """Numbers in a model's weights."""
    from luhuo.model.load import load_decoder

    return sum(p.numel() for p in load_decoder(folder, dtype="fp32", device="cpu").parameters())


def effect(options: argparse.Namespace) -> None:
    """Train and ask, and print a table."""
    import torch

    from luhuo.core.atomic import write_text
    from luhuo.verify.statistics import paired_difference

    torch.set_num_threads(1)
    run, out = Path(options.run), Path(options.out or tempfile.mkdtemp(prefix="distill-"))
    changes = {key: json.loads(value) for key, value in (pair.split("=", 1) for pair in options.set)}
    out.mkdir(parents=True, exist_ok=True)
    with (run / "world/dialogue/train.jsonl").open(encoding="utf-8") as handle:
        write_text(out / "train.jsonl", "".join(itertools.islice(handle, options.conversations)))
        write_text(out / "questions.jsonl", "".join(itertools.islice(handle, options.questions)))
    items = chosen(run / "world/dialogue/test.jsonl", options.items)
    teaching = TEACHING | changes
    print(
        f"{len(items)} items, {options.conversations} conversations, {options.steps} steps; {json.dumps(teaching)}",
        flush=True,
    )
    print(f"{'':22} {'parameters':>10} {'right, %':>24} {'cpu s':>8}", flush=True)
    show("teacher", [right(run / "assistant", items)], 0, parameters(run / "assistant"))
    arms = {"alone": ("sft", {}), "taught": ("distill", {"teacher": str(run / "assistant")} | teaching)}
    if "answers" in options.arms.split(","):
        asked = {"teacher": str(run / "assistant"), "prompts": str(out / "questions.jsonl"), "temperature": 0.0}
        seconds = made("teacher-answers", ASKING | asked, out / "asked")
        print(f"the teacher answered {options.questions} questions in {seconds:.0f} cpu s", flush=True)
        arms["answers"] = ("sft", {"data": [str(out / "train.jsonl"), str(out / "asked" / "conversations.jsonl")]})
    arms = {name: arms[name] for name in options.arms.split(",")}
    found: dict[str, list[list[float]]] = {name: [] for name in arms}
    for seed in map(int, options.seeds.split(",")):
        student = out / f"student-{seed}"
        seconds = made(
            "pretrain",
            STUDENT | {"shards": str(run / "shards"), "tokenizer": str(run / "tokenizer"), "seed": seed},
            student,
        )
        print(f"student seed {seed}: pretrained in {seconds:.0f} cpu s", flush=True)
        shared = LEARNING | {"model": str(student), "data": str(out / "train.jsonl"), "seed": seed}
        shared |= {"steps": options.steps}
        for arm, (stage, more) in arms.items():
            folder = out / f"{arm}-{seed}"
            seconds = made(stage, shared | more, folder)
            found[arm].append(right(folder, items))
            show(f"{arm} seed {seed}", found[arm][-1:], seconds, parameters(folder))
    means = {arm: [statistics.mean(values) for values in zip(*runs, strict=True)] for arm, runs in found.items()}
    for arm in [name for name in arms if name != "alone" and "alone" in arms]:
        gain = paired_difference(means["alone"], means[arm], seed=0)
        interval = f"[{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
        print(f"{arm} over alone: {100 * gain.difference:+.1f} points {interval}, p {gain.p_value:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--conversations", type=int, default=1000, help="of the train split")
    parser.add_argument("--questions", type=int, default=7000, help="of the train split that the teacher answers")
    parser.add_argument("--arms", default="alone,taught,answers")
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--out", default="", help="kept; what is finished in it is not done again")
    parser.add_argument("--set", nargs="*", default=[], help="settings of stage distill")
    effect(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
