"""Two evaluations of the same items, compared item by item: paired differences in points, with intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.verify.statistics import bootstrap_macro, paired_difference

ITEMS = "items.jsonl"


def read_outcomes(evaluation: str | Path) -> dict[str, tuple[str, bool]]:
    """{item id: (family, correct)} of an evaluate artifact. Raises `LuhuoError` if it asked no items."""
    path = Path(evaluation) / ITEMS
    if not path.is_file():
        raise LuhuoError(
            tr("This is no evaluation with test items.", "这不是含题目的评测产物。"), expected=ITEMS, where=evaluation
        )
    with path.open(encoding="utf-8") as handle:
        return {row["id"]: (row["family"], row["correct"]) for row in map(json.loads, handle)}


def compare_runs(
    before: Mapping[str, tuple[str, float]], after: Mapping[str, tuple[str, float]], seed: int = 0
) -> dict[str, Any]:
    """{"mean": …, "families": {name: …}, "n", "only_in_one"}: after minus before in percentage points.

    An item is right (1) or wrong (0), or right in so many of several runs. The mean weighs families equally. Only
    items in both count. Raises `LuhuoError` if there are none.
    """
    shared = sorted(before.keys() & after.keys())
    if not shared:
        raise LuhuoError(
            tr("The two evaluations share no item.", "两次评测没有共同的题目。"),
            fix=tr(
                "Evaluate both on the same items, with the same limit and seed.",
                "请用相同题目、limit 和种子评测两者。",
            ),
        )
    families: dict[str, Any] = {}
    differences: list[list[float]] = []
    for name in sorted({after[key][0] for key in shared}):
        keys = [key for key in shared if after[key][0] == name]
        a, b = [100.0 * before[key][1] for key in keys], [100.0 * after[key][1] for key in keys]
        families[name] = asdict(paired_difference(a, b, derive_seed(seed, "compare", name)))
        differences.append([y - x for x, y in zip(a, b, strict=True)])
    mean = bootstrap_macro(differences, derive_seed(seed, "compare"))
    return {
        "mean": {"difference": mean.mean, "low": mean.low, "high": mean.high, "n": mean.n},
        "families": families,
        "n": len(shared),
        "only_in_one": len(before.keys() ^ after.keys()),
    }
