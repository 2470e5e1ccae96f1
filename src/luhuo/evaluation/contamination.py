"""Does training text hold the test: n-grams of 13 words, or of 13 Han characters, that stand in both.

Words and Han characters are looked at apart, without case, marks and spaces, so that a question is found again in
whatever layout. Shorter items are looked for whole, from eight on. An n-gram that many training documents share says
nothing of the test (a licence, a form of address) and is left out, as Brown et al. (2020, appendix C) do. How much of
an item is covered by what is left decides, with the bounds of Touvron et al. (2023, appendix A.6): under a fifth it
is clean, from four fifths on it stands in the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["words", "han"]
Verdict = Literal["clean", "partly", "dirty", "too_short"]
CLEAN, DIRTY = 0.2, 0.8
SHORTEST = 8
"""Words or characters below which an item is too short to be told from chance."""
NAMED = 5
"""Documents named for each item."""

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNITS = re.compile(rf"(?P<han>[{_HAN}])|(?P<words>(?:(?![{_HAN}])[^\W_])+)")


@dataclass(frozen=True)
class TestItem:
    """An item of a benchmark: its question, with its answer."""

    id: str
    text: str
    task: str = ""

    __test__ = False  # no test of pytest's


@dataclass(frozen=True)
class Finding:
    """How much of an item stands in training text. `longest`: the longest run of it that does; `documents`: where."""

    item: TestItem
    share: float
    verdict: Verdict
    longest: str
    documents: tuple[str, ...]


@dataclass
class _Gram:
    items: list[int]
    documents: int = 0
    names: list[str] = field(default_factory=list)
    last: int = -1


class Overlap:
    """An index of test items, to which training documents are shown one by one; memory does not grow with those."""

    def __init__(self, items: Iterable[TestItem], words: int = 13, han: int = 13, common: int = 10) -> None:
        self.items = list(items)
        self.sizes: dict[Kind, int] = {"words": words, "han": han}
        self.common = common
        """Grams that stand in more documents are left out."""
        self.documents = 0
        self._grams: dict[Kind, dict[int, dict[str, _Gram]]] = {"words": {}, "han": {}}
        for number, item in enumerate(self.items):
            for kind, units in units_of(item.text).items():
                size = min(self.sizes[kind], len(units))
                if size >= min(SHORTEST, self.sizes[kind]):
                    table = self._grams[kind].setdefault(size, {})
                    for gram in grams(units, size, kind):
                        found = table.setdefault(gram, _Gram([]))
                        if not found.items or found.items[-1] != number:
                            found.items.append(number)

    def show(self, name: str, text: str) -> None:
        """Look at a training document."""
        number, self.documents = self.documents, self.documents + 1
        for kind, units in units_of(text).items():
            for size, table in self._grams[kind].items():
                for gram in grams(units, size, kind):
                    found = table.get(gram)
                    if found is not None and found.last != number:
                        found.last = number
                        found.documents += 1
                        if len(found.names) < NAMED:
                            found.names.append(name)

    def findings(self) -> list[Finding]:
        """A finding for each item, in their order."""
        return [self._finding(item) for item in self.items]

    def _finding(self, item: TestItem) -> Finding:
        covered, total, longest, names = 0, 0, "", dict[str, None]()
        for kind, units in units_of(item.text).items():
            size = min(self.sizes[kind], len(units))
            if size < min(SHORTEST, self.sizes[kind]):
                continue
            table, marks = self._grams[kind][size], [False] * len(units)
            for place, gram in enumerate(grams(units, size, kind)):
                found = table[gram]
                if 0 < found.documents <= self.common:
                    marks[place : place + size] = [True] * size
                    names |= dict.fromkeys(found.names)
            covered, total = covered + sum(marks), total + len(units)
            longest = max(longest, _longest(units, marks, kind), key=len)
        if not total:
            return Finding(item, 0.0, "too_short", "", ())
        share = covered / total
        verdict: Verdict = "clean" if share < CLEAN else "dirty" if share >= DIRTY else "partly"
        return Finding(item, share, verdict, longest, tuple(names)[:NAMED])


def units_of(text: str) -> dict[Kind, list[str]]:
    """The words and, apart from them, the Han characters of a text, in order; compatibility forms are made one."""
    found: dict[Kind, list[str]] = {"words": [], "han": []}
    for match in _UNITS.finditer(unicodedata.normalize("NFKC", text).casefold()):
        found["han" if match["han"] else "words"].append(match[0])
    return found


def grams(units: Sequence[str], size: int, kind: Kind) -> Iterator[str]:
    """All runs of `size` units."""
    if kind == "han":
        joined = "".join(units)
        yield from (joined[place : place + size] for place in range(len(units) - size + 1))
    else:
        yield from (" ".join(units[place : place + size]) for place in range(len(units) - size + 1))


def _longest(units: Sequence[str], marks: Sequence[bool], kind: Kind) -> str:
    best, start = (0, 0), None
    for place, mark in enumerate([*marks, False]):
        if mark and start is None:
            start = place
        elif not mark and start is not None:
            best, start = max(best, (start, place), key=lambda ends: ends[1] - ends[0]), None
    return ("" if kind == "han" else " ").join(units[best[0] : best[1]])


def counts(findings: Iterable[Finding]) -> dict[Verdict, int]:
    """How many items there are of each verdict."""
    found: dict[Verdict, int] = {"clean": 0, "partly": 0, "dirty": 0, "too_short": 0}
    for finding in findings:
        found[finding.verdict] += 1
    return found
