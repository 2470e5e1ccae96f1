"""AlpacaEval's win rates from its published annotations: ours beside the leaderboard's.

    python bench/win_rates.py DATA

DATA is the folder of benchmark data with `alpaca_eval` (annotations and leaderboard, CC-BY-NC-4.0; not part of Luhuo).
The rate at equal length of each model learns from the annotations of the other models that are there.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from luhuo.evaluation.judges.win_rate import length_controlled, read_annotations, win_rate


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    root = parser.parse_args().data / "alpaca_eval"
    with (root / "leaderboard_alpacaeval2_gpt4_turbo.csv").open(encoding="utf-8") as handle:
        published = {row[""]: row for row in csv.DictReader(handle)}
    judged = {
        file.name.removeprefix("annotations_").partition(".jsonl")[0]: read_annotations(file)
        for file in sorted(root.glob("annotations_*.jsonl.gz"))
    }
    print("| model | raw ± s.e. | leaderboard | at equal length ± s.e. | leaderboard |")
    print("| --- | --- | --- | --- | --- |")
    for model, mine in judged.items():
        raw, listed = win_rate(mine), published.get(model)
        level = length_controlled(mine, [rows for name, rows in judged.items() if name != model])
        theirs = [f"{float(listed[key]):.2f}" if listed else "–" for key in ("win_rate", "length_controlled_winrate")]
        ours = f"{raw.win_rate:.2f} ± {raw.standard_error:.2f}", f"{level.win_rate:.2f} ± {level.standard_error:.2f}"
        print(f"| {model} | {ours[0]} | {theirs[0]} | {ours[1]} | {theirs[1]} |")


if __name__ == "__main__":
    main()
