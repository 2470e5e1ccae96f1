"""What supervised fine-tuning teaches, against the base asked with examples and against exchanged answers.

    python bench/sft.py RUN [--seeds 0,1,2] [--steps 950] [--out DIR]

RUN is a folder of the quickstart recipe (RUN/base, RUN/world). For each seed two models are fine-tuned from the base
with the recipe's settings: one on the conversations, one on the same conversations with their answers exchanged within
family and language. They are asked through the chat template; the base is asked the same questions as text with two
solved examples before each. All answers are greedy, the questions are those of the test split, whose people, places
and wordings never occur in training.

The mean is over families. Intervals: for one model by bootstrap over the items; for a difference by pairing the items,
whose values are means over the seeds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luhuo.core.artifact import produce
from luhuo.stages import configured

SFT: dict[str, Any] = {"batch": 2048, "length": 256, "learning_rate": 0.006, "threads": 1, "device": "cpu"}
ASKED: dict[str, Any] = {"max_tokens": 80, "device": "cpu"}
Outcomes = Mapping[str, tuple[str, float]]
"""Of each item its family and whether, or how often, it was answered rightly."""


def asked(model: Path, items: Path, out: Path, **more: Any) -> Path:
    """The stage `evaluate` on a model."""
    values = {"model": str(model), "items": str(items), "mode": "chat"} | ASKED | more
    return produce("evaluate", configured("evaluate", values), out).path


def over_seeds(runs: list[Outcomes]) -> Outcomes:
    """Each item's share of right answers over the seeds."""
    return {key: (family, statistics.mean(run[key][1] for run in runs)) for key, (family, _) in runs[0].items()}


def mean(run: Outcomes) -> float:
    """Percent right, every family counting the same."""
    families = {family for family, _ in run.values()}
    return 100 * statistics.mean(
        statistics.mean(right for of, right in run.values() if of == family) for family in families
    )


def told(name: str, runs: list[Outcomes], note: str = "") -> None:
    """One line: the mean over families, together and of each seed."""
    each = [mean(run) for run in runs]
    print(f"{name:24} {statistics.mean(each):5.1f}   {', '.join(f'{value:.1f}' for value in each)} {note}", flush=True)


def main() -> None:
    """Train, ask, and print the table."""
    import torch

    from luhuo.evaluation.compare import compare_runs, read_outcomes

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=950)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/bench/sft"), help="kept; what is there is not made again"
    )
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    world = chosen.run / "world" / "dialogue"
    shots = {"mode": "completion", "shots": 2, "shots_from": str(world / "valid.jsonl")}
    base = read_outcomes(asked(chosen.run / "base", world / "test.jsonl", chosen.out / "base", **shots))
    print(f"{'':24} {'mean':>5}   each seed")
    told("base, two examples", [base])
    runs: dict[str, list[Outcomes]] = {"fine-tuned": [], "answers exchanged": []}
    for seed in map(int, chosen.seeds.split(",")):
        for name, exchanged in (("fine-tuned", False), ("answers exchanged", True)):
            folder = chosen.out / f"{'control' if exchanged else 'sft'}-{seed}"
            values = SFT | {"model": str(chosen.run / "base"), "data": [str(world / "train.jsonl")]}
            values |= {"steps": chosen.steps, "seed": seed, "shuffle_answers": exchanged}
            start = time.process_time()
            model = produce("sft", configured("sft", values), folder).path
            seconds = time.process_time() - start
            runs[name].append(
                read_outcomes(asked(model, world / "test.jsonl", folder.with_name(f"{folder.name}-scores")))
            )
            told(f"{name}, seed {seed}", runs[name][-1:], f"(trained in {seconds:.0f} s of processor time)")
    for name, found in runs.items():
        told(name, found)
    after = over_seeds(runs["fine-tuned"])
    for name, before in (
        ("the base", over_seeds([base])),
        ("exchanged answers", over_seeds(runs["answers exchanged"])),
    ):
        gain = compare_runs(before, after, 0)["mean"]
        print(f"over {name}: {gain['difference']:+.1f} points [{gain['low']:+.1f}, {gain['high']:+.1f}]")


if __name__ == "__main__":
    main()
