"""What a reward model learns from the world's comparisons: accuracy by planted defect, on entities and templates that
training never saw, beside a judge that sees only lengths and one that sees only words.

    python bench/reward_model.py --run runs/quickstart --out runs/bench/reward

`--run` is a finished quickstart: its `assistant` is what the model starts from, its world's seed says which facts are
true. Comparisons are made anew, as many as `--pairs`. Runs that are there are not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from intervals import half_width

from luhuo.align.reward_stage import RewardStage
from luhuo.core.artifact import produce, read_manifest
from luhuo.world.stages import WorldStage

SURFACE = ("broken_format", "repetition", "truncation", "wrong_language", "wrong_refusal")
SEMANTIC = ("wrong_entity", "wrong_number")


def main() -> None:
    """Train a model for each seed, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--out", type=Path, default=Path("runs/bench/reward"))
    parser.add_argument("--model", default="assistant", help="which model of the run")
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--learning-rate", type=float, default=0.004)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    world = comparisons(chosen.run, chosen.pairs, chosen.out)
    told = []
    for seed in range(chosen.seeds):
        stage = RewardStage(
            model=str(chosen.run / chosen.model),
            data=str(world / "preference/train.jsonl"),
            test=str(world / "preference/test.jsonl"),
            seed=seed,
            epochs=chosen.epochs,
            learning_rate=chosen.learning_rate,
            threads=chosen.threads,
            device="cpu",
        )
        began = time.perf_counter()
        done = produce("reward", stage, chosen.out / f"{chosen.model}-{chosen.pairs}-{seed}")
        report = json.loads((done.path / "reward.json").read_text(encoding="utf-8"))
        took = done.manifest["duration_s"] if done.reused else time.perf_counter() - began
        told.append({**report, "seconds": took})
    print_tables(told)


def comparisons(run: Path, pairs: int, out: Path) -> Path:
    """The world of the run, with this many comparisons and hardly anything else."""
    seed = read_manifest(run / "world")["config"]["seed"]
    small: dict[str, Any] = {"megabytes": 0.05, "copybook_megabytes": 0, "dialogues": 100, "valid_dialogues": 1}
    small |= {"test_per_family": 2, "prompts": 10, "dirty_documents": 0}
    return produce("world", WorldStage(seed=seed, preferences=pairs, **small), out / f"world-{pairs}").path


def print_tables(told: list[dict[str, Any]]) -> None:
    """Accuracies by defect and in all, what the other judges reach, calibration and length: means over the seeds."""
    over = "over the seeds (Student's t)" if told[1:] else "over the pairs (Wilson)"
    print(f"\nseeds: {len(told)}; {told[0]['n']} held-out pairs; 95% intervals {over}\n")
    print("| defect | kind | n | accuracy | worst seed |\n| --- | --- | --: | --: | --: |")
    for kind, names in (("surface", SURFACE), ("semantic", SEMANTIC)):
        for name in names:
            row(name, kind, [one["by"]["defect"][name] for one in told])
    row("all", "", told)
    print("\n| judge | accuracy | the model is ahead by | worst seed's interval |\n| --- | --: | --: | --: |")
    for name in told[0]["baselines"]:
        others = [one["baselines"][name] for one in told]
        lead, worst = [one["model"]["difference"] for one in others], min(others, key=lambda o: o["model"]["low"])
        bounds = f"{100 * worst['model']['low']:.1f} to {100 * worst['model']['high']:.1f}"
        print(f"| {name} | {others[0]['accuracy']:.1%} | {100 * statistics.mean(lead):.1f} points | {bounds} |")
    for title, values in (
        ("calibration error", [one["calibration"]["ece"] for one in told]),
        ("correlation of lead and length", [one["length"]["lead"]["r"] for one in told]),
        ("correlation of score and length", [one["length"]["score"]["r"] for one in told]),
        ("seconds", [one["seconds"] for one in told]),
    ):
        print(f"\n{title}: {', '.join(f'{value:.3g}' for value in values)}")


def row(name: str, kind: str, shares: list[dict[str, Any]]) -> None:
    """One line of the table of accuracies."""
    values = [share["accuracy"] for share in shares]
    mean = statistics.mean(values)
    low, high = shares[0]["low"], shares[0]["high"]
    if values[1:]:
        half = half_width(values)
        low, high = max(0, mean - half), min(1, mean + half)
    bounds = f"{low:.1%} to {high:.1%}"
    print(f"| {name} | {kind} | {shares[0]['n']} | {mean:.1%} ({bounds}) | {min(values):.1%} |")


if __name__ == "__main__":
    main()
