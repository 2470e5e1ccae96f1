"""The road of R1 over seeds: what each step of recipes/reasoner.yaml gains.

    python bench/reasoner.py RUN [--seeds 7,8,9] [--out DIR] [--set zero.steps=20 …]

RUN is a folder of `luhuo run recipes/reasoner.yaml` (made now if it is not there). Its world, tokenizer and base
models are shared; all that comes after them is made again with other seeds, in DIR/SEED, and is not made twice. An
interval is that of the paired difference of each question's share of right answers over the seeds, by bootstrap (95%).
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from sft import Outcomes, mean, over_seeds

from luhuo.evaluation.compare import compare_runs, read_outcomes

RECIPE = Path(__file__).parent.parent / "recipes" / "reasoner.yaml"
SEEDED = ("zero", "cold", "reasoner", "chosen", "second", "aligned", "lessons", "small", "small_alone")
STEPS = (
    ("base", ""),
    ("zero", "base"),
    ("cold", "base"),
    ("reasoner", "cold"),
    ("second", "reasoner"),
    ("aligned", "second"),
    ("small_alone", ""),
    ("small", "small_alone"),
)
"""Models, and the one each is compared with."""
EVERYDAY = (("second_everyday", ""), ("aligned_everyday", "second_everyday"))


def road(run: Path, folder: Path, seed: int, settings: list[str]) -> Path:
    """The road with this seed from the base on: what `run` holds is taken over, and made again where it differs."""
    if not folder.exists():
        shutil.copytree(run, folder, copy_function=os.link, ignore=shutil.ignore_patterns(".*"))
    travel(folder, [*(f"{name}.seed={seed}" for name in SEEDED), *settings])
    return folder


def travel(folder: Path, settings: list[str]) -> None:
    """Run the recipe, or what is left of it."""
    command = [sys.executable, "-m", "luhuo", "run", str(RECIPE), *settings, "--out", str(folder)]
    subprocess.run(command, check=True, stdout=sys.stderr)


def outcomes(folder: Path, name: str) -> Outcomes:
    """What was answered rightly in one evaluation."""
    return read_outcomes(folder / (name if name.endswith("_everyday") else f"{name}_scores"))


def main() -> None:
    """Travel, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", default="7,8,9")
    parser.add_argument("--set", nargs="*", default=[], help="settings of the recipe")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/reasoner"))
    chosen = parser.parse_args()
    if not (chosen.run / "summary.json").exists():
        travel(chosen.run, chosen.set)
    folders = [road(chosen.run, chosen.out / seed, int(seed), chosen.set) for seed in chosen.seeds.split(",")]
    print("| model | right, % | each seed | over | points |\n| --- | --: | --- | --- | --- |")
    for name, before in (*STEPS, *EVERYDAY):
        found = [outcomes(folder, name) for folder in folders]
        each = [mean(one) for one in found]
        cells = [f"{statistics.mean(each):.1f}", ", ".join(f"{value:.1f}" for value in each), before, ""]
        if before:
            start = over_seeds([outcomes(folder, before) for folder in folders])
            gain = compare_runs(start, over_seeds(found), 0)["mean"]
            cells[3] = f"{gain['difference']:+.1f} ({gain['low']:+.1f} to {gain['high']:+.1f})"
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
