"""Tables of the card, and how numbers are written in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Header and rows; columns from `numbers` on are numbers."""

    head: list[str]
    rows: list[list[str]]
    numbers: int = 1


def ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The most frequent first; of equals by name, so that the order of the corpus does not show."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def share(part: float, whole: float) -> str:
    """A share in per cent, with as many digits as it takes to tell it from 0 and from 100."""
    value = 100 * part / whole if whole else 0.0
    if 0 < value < 0.05:
        return f"{value:.2g}%"
    return f"{value:.3f}%" if 99.95 < value < 100 else f"{value:.1f}%"


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"


def short(count: float) -> str:
    """A large number as people read it."""
    for unit, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= scale:
            return f"{count / scale:.2f}{unit}"
    return f"{count:.0f}"


def reasons_text(reasons: Sequence[Sequence[Any]]) -> str:
    """Reasons with their values, in one line."""
    return ", ".join(str(code) if value is None else f"{code} ({value})" for code, value in reasons)
