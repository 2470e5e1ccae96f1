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

import numpy as np
import numpy.typing as npt

from luhuo.corpus.signals.batch import UNSPACED, Batch, Hashes, Integers, Spans, Values, ratio
from luhuo.corpus.signals.characters import Mask

STEP = np.uint64(0xFF51AFD7ED558CCD)
DOCUMENT_BITS = np.uint64(48)
"""A key's upper 16 bits name the document: `MOST_DOCUMENTS` a batch."""
MOST_DOCUMENTS = 1 << 16
LENGTH_BITS = np.uint64(8)
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
    longest = 13 if batch.lang in UNSPACED else 10
    shares = grams.duplicates(5, longest)
    return values | {f"duplicate_{n}gram": shares[n] for n in (*range(5, 11), *range(13, longest + 1))}


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
        self.batch, self.units = batch, batch.units
        self.documents = batch.units.documents
        self.words = batch.unit_hashes
        self.lengths = batch.units.lengths
        self.chars: Integers = np.concatenate(([0], np.cumsum(self.lengths)))
        self.first = np.searchsorted(self.documents, np.arange(batch.count + 1))
        self.total = self.chars[self.first[1:]] - self.chars[self.first[:-1]]
        self.n, self.rolled = 1, self.words * STEP

    def _hashes(self, n: int) -> Hashes:
        """Hashes of the n-grams that begin at each unit; the last n-1 units begin none."""
        while self.n < n:
            ahead = self.words[self.n :]
            self.rolled = (self.rolled[: len(ahead)] + ahead) * STEP
            self.n += 1
        return self.rolled ^ (self.rolled >> np.uint64(31))

    def _inside(self, n: int) -> Mask:
        """Whether the n-gram that begins at each unit lies in one document."""
        return self.documents[n - 1 :] == self.documents[: max(0, len(self.documents) - n + 1)]

    def top(self, n: int) -> npt.NDArray[np.float64]:
        """The share of the text in its most frequent n-gram; of several equally frequent ones the longest counts.
        0 if none occurs twice."""
        inside = self._inside(n)
        if not inside.any():
            return np.zeros(self.batch.count)
        chars = np.minimum(self.chars[n:] - self.chars[:-n], 255)[inside].astype(np.uint64)
        keys = _keyed(self._hashes(n)[inside], self.documents[: len(inside)][inside])
        keys = np.sort((keys & ~np.uint64(255)) | chars)  # an n-gram has one length: it may stand in the key
        starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
        runs = np.diff(np.concatenate((starts, [len(keys)])))
        many = runs > 1
        starts, runs = starts[many], runs[many]
        documents = (keys[starts] >> DOCUMENT_BITS).astype(np.int64)
        best = np.zeros(self.batch.count, np.int64)
        borders = np.flatnonzero(np.concatenate(([True], documents[1:] != documents[:-1]))) if len(documents) else []
        if len(borders):
            weighed = (runs << 8) | (keys[starts] & np.uint64(255)).astype(np.int64)
            best[documents[borders]] = np.maximum.reduceat(weighed, borders)
        return np.minimum(ratio((best >> 8) * (best & 255), self.total), 1.0)

    def duplicates(self, shortest: int, longest: int) -> dict[int, npt.NDArray[np.float64]]:
        """By n, the share of the text in n-grams that occurred earlier in it, each character counted once."""
        shares = {n: np.zeros(self.batch.count) for n in range(shortest, longest + 1)}
        inside = self._inside(shortest)
        if not inside.any():
            return shares
        hashes = self._hashes(shortest)
        keys = _keyed(hashes, self.documents[: len(inside)])
        places = _perhaps_repeated(keys, inside)
        rolled = self.rolled[places]
        for n in range(shortest, longest + 1):
            if n > shortest:
                alive = np.zeros(len(self.documents) + 1, bool)
                alive[places] = True
                further = alive[places + 1] & (places + n <= self.first[self.documents[places] + 1])
                places = places[further]
                rolled = (rolled[further] + self.words[places + n - 1]) * STEP
            keys = _keyed(rolled ^ (rolled >> np.uint64(31)), self.documents[places])
            repeated, again = _repeated(keys)
            shares[n] = self._covered(places[again], n)
            places, rolled = places[repeated], rolled[repeated]
            if not len(places):
                break
        return shares

    def _covered(self, places: Integers, n: int) -> npt.NDArray[np.float64]:
        """The share of each document's characters in the n-grams that begin at these units."""
        if not len(places):
            return np.zeros(self.batch.count)
        change = np.zeros(len(self.documents) + 1, np.int32)
        change[places] += 1
        change[places + n] -= 1  # the places differ, so no addition is lost
        covered = np.cumsum(change[:-1]) > 0
        chars = np.concatenate(([0], np.cumsum(np.where(covered, self.lengths, 0))))
        return ratio(chars[self.first[1:]] - chars[self.first[:-1]], self.total)


def _perhaps_repeated(keys: Hashes, inside: Mask) -> Integers:
    """The places whose key occurs twice, and a few more: sorting values is several times cheaper than sorting places,
    so the places are found through a small table of the repeated keys."""
    ranked = np.sort(keys[inside])
    twice = ranked[1:][ranked[1:] == ranked[:-1]]
    table = np.zeros(1 << int(TABLE_BITS), bool)
    low = np.uint64((1 << int(TABLE_BITS)) - 1)
    table[(twice & low).astype(np.int64)] = True
    return np.flatnonzero(table[(keys & low).astype(np.int64)] & inside)


def _repeated(keys: Hashes) -> tuple[Mask, Mask]:
    """Which keys occur more than once, and which of those are not the first of their kind."""
    order = np.argsort(keys)
    ranked = keys[order]
    fresh = np.concatenate(([True], ranked[1:] != ranked[:-1])) if len(keys) else np.zeros(0, bool)
    starts = np.flatnonzero(fresh)
    sizes = np.diff(np.concatenate((starts, [len(keys)])))
    repeated, again = np.zeros(len(keys), bool), np.zeros(len(keys), bool)
    if len(keys):
        repeated[order] = np.repeat(sizes > 1, sizes)
        again[:] = repeated
        again[np.minimum.reduceat(order, starts)] = False
    return repeated, again
