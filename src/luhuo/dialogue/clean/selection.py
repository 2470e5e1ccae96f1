"""Choosing among clean rows: the hardest, the most different, or a small set of high quality."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.dialogue.clean.diversity import Vectors, k_center
from luhuo.dialogue.clean.stages import Selection
from luhuo.files.streams import open_text

FULL_UNITS = 250
"""Words or Han characters of an answer that is full: more of them make it no better."""
STRUCTURE = re.compile(r"(?m)^\s*(?:[-*•]|\d+[.)、]|#{1,4} |```)|\n\n")
BEST_IFD = 0.8
"""Difficulty that counts most; beyond it an answer is often simply wrong."""


@dataclass(frozen=True)
class Candidate:
    """A clean row that may be chosen. `ifd`: its difficulty, where it was measured."""

    number: int
    key: str
    source: str
    units: int
    structured: bool
    ifd: float | None

    @property
    def quality(self) -> float:
        """0 to 1: how full the answer is, whether it is laid out, and how much it teaches (where `ifd` is known)."""
        full = math.log1p(min(self.units, FULL_UNITS)) / math.log1p(FULL_UNITS)
        parts = [0.7 * full + 0.3 * self.structured]
        if self.ifd is not None:
            parts.append(max(0.0, 1 - abs(self.ifd - BEST_IFD) / BEST_IFD))
        return sum(parts) / len(parts)


def read_difficulty(path: str | Path) -> dict[str, float]:
    """{key: IFD} of the file `difficulty.jsonl` that the stage `difficulty` writes, or of its folder."""
    file = Path(path) / "difficulty.jsonl" if Path(path).is_dir() else Path(path)
    found: dict[str, float] = {}
    try:
        with open_text(file) as handle:
            for row in map(json.loads, handle):
                if row["ifd"] is not None:
                    found[str(row["key"])] = float(row["ifd"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LuhuoError(
            tr("These are no scores of difficulty.", "这不是难度分数文件。"),
            expected='{"key": "…", "ifd": 0.7}',
            found=str(error),
            where=file,
            fix="luhuo difficulty --model … --data …",
        ) from None
    return found


def select(rows: Sequence[Candidate], vectors: Vectors | None, wanted: Selection) -> tuple[list[int], dict[str, Any]]:
    """(places in `rows` of those chosen, what the report says). `vectors` belong to the rows in their order."""
    count = min(wanted.count, len(rows))
    if wanted.by == "difficulty":
        order = sorted(range(len(rows)), key=lambda place: (-(rows[place].ifd or 0.0), rows[place].key))
        return order[:count], {}
    pool = sorted(range(len(rows)), key=lambda place: rows[place].key)
    if wanted.by == "small":
        most = max(count, math.ceil(count * wanted.pool))
        pool = sorted(sorted(pool, key=lambda place: (-rows[place].quality, rows[place].key))[:most])
        pool.sort(key=lambda place: rows[place].key)
    assert vectors is not None
    chosen, radii = k_center(vectors[np.array(pool, dtype=np.int64)] if pool else vectors[:0], count)
    report = {"pool": len(pool), "radius": [round(radius, 4) for radius in _thinned(radii)]}
    return [pool[place] for place in chosen], report


def described(rows: Sequence[Candidate], chosen: Sequence[int]) -> dict[str, Any]:
    """Of all rows and of the chosen ones: how many of each source, lengths, quality and difficulty."""
    return {"before": _described(rows), "after": _described([rows[place] for place in chosen])}


def _described(rows: Sequence[Candidate]) -> dict[str, Any]:
    ifd = [row.ifd for row in rows if row.ifd is not None]
    sources = sorted({row.source for row in rows})
    found: dict[str, Any] = {
        "rows": len(rows),
        "sources": {source: sum(row.source == source for row in rows) for source in sources},
    }
    for name, values in (
        ("units", [row.units for row in rows]),
        ("quality", [row.quality for row in rows]),
        ("ifd", ifd),
    ):
        if values:
            found[name] = [round(float(q), 3) for q in np.quantile(values, (0.1, 0.5, 0.9))]
    return found


def structured(answer: str) -> bool:
    """Whether an answer has paragraphs, a list, headings or code."""
    return STRUCTURE.search(answer) is not None


def _thinned(values: Sequence[float], most: int = 20) -> list[float]:
    """At most so many of the values, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(place * (len(values) - 1) / (most - 1))] for place in range(most)]
