"""Planted test items found again: python bench/contamination.py DATA (the folder with mbpp/).

MBPP's training items are the training text, and 20 of its 500 test items are put among them as conversations.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from luhuo.evaluation.contamination import Overlap, counts
from luhuo.evaluation.contamination_sources import items_of
from luhuo.evaluation.tasks import catalogue

PLANTED = 20


def main() -> None:
    """Print how many items are found, planted and others."""
    folder = Path(sys.argv[1]) / "mbpp"
    items = items_of(catalogue.task("mbpp"), str(folder))
    rows = [json.loads(line) for line in (folder / "mbpp.jsonl").open(encoding="utf-8")]
    chosen = {item.id for item in random.Random(0).sample(items, PLANTED)}
    index = Overlap(items)
    for row in rows:
        tests = "\n".join(row["test_list"])
        if row["task_id"] > 600 or str(row["task_id"]) in chosen:
            index.show(
                str(row["task_id"]), f"{row['text']} Your code should pass these tests:\n{tests}\n{row['code']}"
            )
    found = index.findings()
    dirty = {finding.item.id for finding in found if finding.verdict == "dirty"}
    print(counts(found), f"planted and found: {len(dirty & chosen)} of {PLANTED}; others: {len(dirty - chosen)}")
    for name in sorted(dirty - chosen, key=int):
        (finding,) = (one for one in found if one.item.id == name)
        print(name, finding.documents, finding.longest[:100])


if __name__ == "__main__":
    main()
