"""What a judge is shown, what it says, and how its words are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

VERDICT = re.compile(r"\[\[\s*([ABC])\s*\]\]")
RATING = (re.compile(r"\[\[\s*(-?\d+(?:\.\d+)?)\s*\]\]"), re.compile(r"\[\s*(-?\d+(?:\.\d+)?)\s*\]"))
VALUES = {"A": 1.0, "B": 0.0, "C": 0.5}
SHOWN = 200
"""Characters of a reply that cannot be read which its reason repeats."""


@dataclass(frozen=True)
class Shown:
    """A conversation with the answers to be judged, turn by turn: one side, or two of which `first` is shown first."""

    questions: tuple[str, ...]
    first: tuple[str, ...]
    second: tuple[str, ...] = ()
    reference: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)

    def swapped(self) -> Shown:
        """The same with the sides exchanged."""
        return Shown(self.questions, self.second, self.first, self.reference, self.meta)


@dataclass(frozen=True)
class Verdict:
    """What a judge says: how likely the first side is better, a rating, or how likely a label holds.

    `value` None: it says nothing that can be read, and `reason` why ("nonsense: …", "ambiguous: …", "timeout: …",
    "too_long: …", "refused: …"). `passing`: asking again may help, so this is not kept.
    """

    value: float | None
    reason: str = ""
    text: str = ""
    passing: bool = False

    @property
    def kind(self) -> str:
        """The first word of the reason; empty for a verdict."""
        return self.reason.partition(":")[0]


def read_pair(text: str, ended: bool = True) -> Verdict:
    """The verdict in `[[A]]`, `[[B]]` or `[[C]]` (a tie). Where a reply holds several that differ, it has said
    nothing (FastChat takes A before B before C there, which favours whoever is shown first)."""
    found = set(VERDICT.findall(text))
    if len(found) == 1:
        return Verdict(VALUES[found.pop()], text=text)
    return Verdict(None, _unread("ambiguous" if found else _missing(ended), text), text)


def read_rating(text: str, scale: tuple[float, float], ended: bool = True) -> Verdict:
    """The number in `[[…]]`, else the first in `[…]` (as FastChat reads it). One outside of the scale is nonsense."""
    for pattern in RATING:
        match = pattern.search(text)
        if match:
            value = float(match[1])
            if scale[0] <= value <= scale[1]:
                return Verdict(value, text=text)
            return Verdict(None, _unread("off_scale", text), text)
    return Verdict(None, _unread(_missing(ended), text), text)


def _missing(ended: bool) -> str:
    return "nonsense" if ended else "cut_off"


def _unread(kind: str, text: str) -> str:
    return f"{kind}: {text.strip()[:SHOWN]!r}"
