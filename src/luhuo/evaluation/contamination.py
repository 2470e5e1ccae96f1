"""Does training text hold the test: n-grams of 13 words, or of 13 Han characters, that stand in both.

Words and Han characters are looked at apart, without case, marks and spaces, so that a question is found again in
whatever layout. Shorter items are looked for whole, from eight on. An n-gram that many training documents share says
nothing of the test (a licence, a form of address) and is left out, as Brown et al. (2020, appendix C) do. How much of
an item is covered by what is left decides, with the bounds of Touvron et al. (2023, appendix A.6): under a fifth it
is clean, from four fifths on it stands in the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from luhuo.corpus.decontaminate.ngrams import Lookup, Units, gram_hashes, units_of

Kind = Literal["words", "han"]
KINDS: tuple[Kind, ...] = ("words", "han")
Verdict = Literal["clean", "partly", "dirty", "too_short"]
CLEAN, DIRTY = 0.2, 0.8
SHORTEST = 8
"""Words or characters below which an item is too short to be told from chance."""
NAMED = 5
"""Documents named for each item."""


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


class _Grams:
    """N-grams of one kind and size, and in how many training documents each stands."""

    def __init__(self, hashes: Sequence[np.ndarray]) -> None:
        self.lookup = Lookup(np.concatenate(hashes))
        self.documents = np.zeros(len(self.lookup.known), dtype=np.int64)
        self.names: dict[int, list[str]] = {}

    def show(self, name: str, hashes: np.ndarray) -> None:
        numbers = np.unique(self.lookup.find(hashes)[1])
        self.documents[numbers] += 1
        for number in numbers[self.documents[numbers] <= NAMED].tolist():
            self.names.setdefault(number, []).append(name)


class Overlap:
    """An index of test items, to which training documents are shown one by one; memory does not grow with those."""

    def __init__(self, items: Iterable[TestItem], words: int = 13, han: int = 13, common: int = 10) -> None:
        self.items = list(items)
        self.sizes: dict[Kind, int] = {"words": words, "han": han}
        self.common = common
        """Grams that stand in more documents are left out."""
        self.documents = 0
        hashes: dict[tuple[Kind, int], list[np.ndarray]] = {}
        for item in self.items:
            for kind, size, found in self._grams_of(item.text):
                hashes.setdefault((kind, size), []).append(gram_hashes(found, size))
        self._grams = {key: _Grams(found) for key, found in hashes.items()}

    def show(self, name: str, text: str) -> None:
        """Look at a training document."""
        self.documents += 1
        units = units_of(text)
        apart = {kind: units.hashes[_of(kind, units)] for kind in KINDS}
        for (kind, size), grams in self._grams.items():
            grams.show(name, gram_hashes(apart[kind], size))

    def findings(self) -> list[Finding]:
        """A finding for each item, in their order."""
        return [self._finding(item) for item in self.items]

    def _grams_of(self, text: str) -> Iterable[tuple[Kind, int, np.ndarray]]:
        """(kind, size of its n-grams, hashes of its units) for the kinds of which a text has enough."""
        units = units_of(text)
        for kind in KINDS:
            hashes = units.hashes[_of(kind, units)]
            size = min(self.sizes[kind], len(hashes))
            if size >= min(SHORTEST, self.sizes[kind]):
                yield kind, size, hashes

    def _finding(self, item: TestItem) -> Finding:
        covered, total, longest, names = 0, 0, "", dict[str, None]()
        units = units_of(item.text)
        for kind, size, hashes in self._grams_of(item.text):
            grams, marks = self._grams[kind, size], np.zeros(len(hashes), dtype=np.bool_)
            for place, number in enumerate(grams.lookup.number(gram_hashes(hashes, size)).tolist()):
                if 0 < grams.documents[number] <= self.common:
                    marks[place : place + size] = True
                    names |= dict.fromkeys(grams.names[number])
            covered, total = covered + int(marks.sum()), total + len(marks)
            mine = [text for text, one in zip(units.texts(), _of(kind, units), strict=True) if one]
            longest = max(longest, _longest(mine, marks.tolist(), kind), key=len)
        if not total:
            return Finding(item, 0.0, "too_short", "", ())
        share = covered / total
        verdict: Verdict = "clean" if share < CLEAN else "dirty" if share >= DIRTY else "partly"
        return Finding(item, share, verdict, longest, tuple(names)[:NAMED])


def _of(kind: Kind, units: Units) -> np.ndarray:
    return units.han if kind == "han" else ~units.han


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
