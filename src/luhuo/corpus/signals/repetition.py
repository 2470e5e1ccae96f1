"""How much of a text says again what it said: Gopher's repetition signals, for words and for characters.

Rae et al. 2021 (arXiv 2112.11446), appendix A.1.1 and table A1: shares of duplicate lines and paragraphs (counted and
by characters), the share of the text in its most frequent 2-, 3- and 4-gram, and in duplicate 5- to 10-grams. For
languages written without blanks the units are characters, and `duplicate_13gram` is EvalWeb's rule (Chen et al. 2023,
arXiv 2311.01149, section 3.1). Shares are of the characters in units: blanks, and in Chinese punctuation, do not
count.

The n-grams of a whole batch are sorted at once as 64-bit keys. Longer ones are looked at only where 5-grams repeat,
since a repeated (n+1)-gram begins with a repeated n-gram and ends with another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from luhuo.corpus.signals.batch import UNSPACED, Batch, Hashes, Integers, Spans, Values, ratio
from luhuo.corpus.signals.characters import Mask

STEP = np.uint64(0xFF51AFD7ED558CCD)
DOCUMENT_BITS = np.uint64(48)
"""A key's upper 16 bits name the document: `MOST_DOCUMENTS` a batch."""
MOST_DOCUMENTS = 1 << 16
LAST = np.uint64((1 << 64) - 1)
WORDS, EVALWEB = (5, 6, 7, 8, 9, 10), 13
TABLE_BITS = np.uint64(18)


def measure(batch: Batch) -> Values:
    """Signals of the family `repetition`."""
    lines, paragraphs = batch.lines, batch.paragraphs
    values: Values = {}
    for name, spans in (("line", lines), ("paragraph", paragraphs)):
        again = _seen_before(batch, spans)
        count, chars = batch.count_of(spans.documents), batch.total(spans.documents, spans.lengths)
        values[f"duplicate_{name}s"] = ratio(batch.count_of(spans.documents[again]), count)
        values[f"duplicate_{name}_chars"] = ratio(batch.total(spans.documents[again], spans.lengths[again]), chars)
    grams = _Grams(batch)
    for n in (2, 3, 4):
        values[f"top_{n}gram"] = grams.top(n)
    wanted = (*WORDS, EVALWEB) if batch.lang in UNSPACED else WORDS
    return values | {f"duplicate_{n}gram": share for n, share in grams.duplicates(wanted).items()}


def _seen_before(batch: Batch, spans: Spans) -> Mask:
    """Which spans repeat an earlier one of the same document."""
    keys = _keyed(batch.hashes(spans), spans.documents)
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    again = np.zeros(len(spans), bool)
    again[order[1:]] = ranked[1:] == ranked[:-1]
    return again


def _keyed(hashes: Hashes, documents: Integers) -> Hashes:
    """Hashes told apart by document. Two of one document meet by chance whatever else is in the batch."""
    return (hashes >> np.uint64(16)) | (documents.astype(np.uint64) << DOCUMENT_BITS)


class _Grams:
    """The n-grams of a batch's units, n by n."""

    def __init__(self, batch: Batch) -> None:
        self.count = batch.count
        self.documents, self.words, self.lengths = batch.units.documents, batch.unit_hashes, batch.units.lengths
        self.tags = self.documents.astype(np.uint64) << DOCUMENT_BITS
        self.chars: Integers = np.concatenate(([0], np.cumsum(self.lengths)))
        self.first = np.searchsorted(self.documents, np.arange(batch.count + 1))
        self.total = self.chars[self.first[1:]] - self.chars[self.first[:-1]]
        self.n, self.rolled = 1, self.words * STEP

    def _keys(self, n: int) -> tuple[Hashes, int]:
        """Keys of the n-grams that begin at each unit but the last n-1, and how many of them cross into another
        document: those are the largest number, and come last when the keys are sorted."""
        while self.n < n:
            ahead = self.words[self.n :]
            self.rolled = (self.rolled[: len(ahead)] + ahead) * STEP
            self.n += 1
        size = len(self.rolled)
        keys = self.tags[:size] | (_mixed(self.rolled) >> np.uint64(16))
        crossing = (self.first[1:, None] - np.arange(1, n)).ravel()
        crossing = np.unique(crossing[(crossing >= 0) & (crossing < size)])
        crossing = crossing[self.documents[crossing] != self.documents[crossing + n - 1]]
        keys[crossing] = LAST
        return keys, len(crossing)

    def top(self, n: int) -> npt.NDArray[np.float64]:
        """The share of the text in its most frequent n-gram; of several equally frequent ones the longest counts.
        0 if none occurs twice."""
        best = np.zeros(self.count, np.int64)
        keys, crossing = self._keys(n)
        chars = np.minimum(self.chars[n:] - self.chars[:-n], 255).astype(np.uint64)
        keys = np.sort((keys & ~np.uint64(255)) | chars)  # an n-gram has one length: it may stand in the key
        keys = keys[: len(keys) - crossing]
        starts = _starts(keys)
        runs = np.diff(starts, append=len(keys))
        many = np.flatnonzero(runs > 1)
        if len(many):
            firsts = keys[starts[many]]
            documents = (firsts >> DOCUMENT_BITS).astype(np.int64)
            borders = _starts(documents)
            weighed = (runs[many] << 8) | (firsts & np.uint64(255)).astype(np.int64)
            best[documents[borders]] = np.maximum.reduceat(weighed, borders)
        return np.minimum(ratio((best >> 8) * (best & 255), self.total), 1.0)

    def duplicates(self, wanted: Sequence[int]) -> dict[int, npt.NDArray[np.float64]]:
        """By n, the share of the text in n-grams that occurred earlier in it, each character counted once."""
        shares = {n: np.zeros(self.count) for n in wanted}
        before = wanted[0]
        keys, crossing = self._keys(before)
        places = _perhaps_repeated(keys, crossing)
        rolled = self.rolled[places]
        alive = np.zeros(len(self.documents) + 1, bool)
        for n in wanted:
            if n > before:  # an n-gram can only repeat where the shorter ones at both of its ends do
                alive[places] = True
                further = alive[np.minimum(places + (n - before), len(self.documents))]
                alive[places] = False
                further &= places + n <= self.first[self.documents[places] + 1]
                places, rolled = places[further], rolled[further]
                for m in range(before, n):
                    rolled = (rolled + self.words[places + m]) * STEP
            keys = self.tags[places] | (_mixed(rolled) >> np.uint64(16))
            repeated, again = _repeated(keys)
            shares[n] = self._covered(places[again], n)
            places, rolled, before = places[repeated], rolled[repeated], n
            if not len(places):
                break
        return shares

    def _covered(self, places: Integers, n: int) -> npt.NDArray[np.float64]:
        """The share of each document's characters in the n-grams that begin at these units (sorted)."""
        if not len(places):
            return np.zeros(self.count)
        # each n-gram adds the characters from where the one before it ended
        ends = places + n
        starts = places.copy()
        starts[1:] = np.maximum(places[1:], ends[:-1])
        chars = self.chars[ends] - self.chars[starts]
        return ratio(np.bincount(self.documents[places], chars, self.count), self.total)


def _mixed(rolled: Hashes) -> Hashes:
    return rolled ^ (rolled >> np.uint64(31))


def _starts(ranked: npt.NDArray[Any]) -> Integers:
    """Where the runs of equal values begin."""
    if not len(ranked):
        return np.zeros(0, np.int64)
    fresh = np.empty(len(ranked), bool)
    fresh[0] = True
    np.not_equal(ranked[1:], ranked[:-1], out=fresh[1:])
    return np.flatnonzero(fresh)


def _perhaps_repeated(keys: Hashes, crossing: int) -> Integers:
    """The places whose key occurs twice, and a few more: sorting values is several times cheaper than sorting places,
    so the places are found through a small table of the repeated keys."""
    ranked = np.sort(keys)
    ranked = ranked[: len(ranked) - crossing]
    twice = ranked[1:][ranked[1:] == ranked[:-1]]
    table = np.zeros(1 << int(TABLE_BITS), bool)
    low = np.uint64((1 << int(TABLE_BITS)) - 1)
    table[(twice & low).astype(np.int64)] = True
    found = table[(keys & low).astype(np.int64)]
    found &= keys != LAST
    return np.flatnonzero(found)


def _repeated(keys: Hashes) -> tuple[Mask, Mask]:
    """Which keys occur more than once, and which of those are not the first of their kind."""
    repeated, again = np.zeros(len(keys), bool), np.zeros(len(keys), bool)
    if len(keys):
        order = np.argsort(keys)
        starts = _starts(keys[order])
        sizes = np.diff(starts, append=len(keys))
        repeated[order] = np.repeat(sizes > 1, sizes)
        again[:] = repeated
        again[np.minimum.reduceat(order, starts)] = False
    return repeated, again
