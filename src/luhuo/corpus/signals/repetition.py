"""How much of a text says again what it said: Gopher's repetition signals, for words and for characters.

Rae et al. 2021 (arXiv 2112.11446), appendix A.1.1 and table A1: shares of duplicate lines and paragraphs (counted and
by characters), the share of the text in its most frequent 2-, 3- and 4-gram, and in duplicate 5- to 10-grams. For
languages written without blanks the units are characters, and `duplicate_13gram` is EvalWeb's rule (Chen et al. 2023,
arXiv 2311.01149, section 3.1). Shares are of the characters in units: blanks, and in Chinese punctuation, do not
count.

The n-grams of a whole batch are sorted at once as 64-bit keys. Longer ones are looked at only where shorter ones
repeat, since a repeated (n+1)-gram begins with a repeated n-gram and ends with another.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from luhuo.corpus.signals.batch import UNSPACED, Batch, Hashes, Integers, Spans, Values, ratio
from luhuo.corpus.signals.characters import Mask

STEP = np.uint64(0xFF51AFD7ED558CCD)
DOCUMENT_BITS = np.uint64(48)
"""A key's upper 16 bits name the document: `MOST_DOCUMENTS` a batch."""
MOST_DOCUMENTS = 1 << 16
WORDS, EVALWEB = (5, 6, 7, 8, 9, 10), 13
TABLE_BITS = np.uint64(20)
PIECE = 2000
"""Keys that are sorted at a time."""


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
    """The n-grams of a batch's units, n by n. Those that cannot occur twice in their document are let go of on the
    way: an n-gram repeats only where the shorter ones at both of its ends do."""

    def __init__(self, batch: Batch) -> None:
        self.count = batch.count
        self.documents, self.words, self.lengths = batch.units.documents, batch.unit_hashes, batch.units.lengths
        self.chars: Integers = np.concatenate(([0], np.cumsum(self.lengths)))
        self.first = np.searchsorted(self.documents, np.arange(batch.count + 1))
        self.total = self.chars[self.first[1:]] - self.chars[self.first[:-1]]
        self.n = 2
        self.places = np.flatnonzero(self.documents[1:] == self.documents[:-1])
        self.rolled = ((self.words[:-1] * STEP + self.words[1:]) * STEP)[self.places]
        self._alive = np.zeros(len(self.words) + 1, bool)

    def _advance(self, n: int) -> None:
        """Go on to longer n-grams."""
        if n == self.n:
            return
        self._alive[self.places] = True
        further = self._alive[np.minimum(self.places + (n - self.n), len(self.words))]
        self._alive[self.places] = False
        further &= self.places + n <= self.first[self.documents[self.places] + 1]
        self._keep(further)
        for m in range(self.n, n):
            self.rolled = (self.rolled + self.words[self.places + m]) * STEP
        self.n = n

    def _keep(self, chosen: Mask) -> None:
        self.places, self.rolled = self.places[chosen], self.rolled[chosen]

    def _keys(self) -> Hashes:
        tags = self.documents[self.places].astype(np.uint64) << DOCUMENT_BITS
        return tags | (_mixed(self.rolled) >> np.uint64(16))

    def _pieces(self) -> list[slice]:
        """The keys in pieces of whole documents, `PIECE` or more each but the last. Keys of documents are in order, so
        that sorting piece by piece sorts all, several times as fast: a piece stays in the nearest cache."""
        borders = [0]
        for end in np.searchsorted(self.places, self.first[1:]).tolist():
            if end - borders[-1] >= PIECE:
                borders.append(end)
        return [slice(begin, end) for begin, end in pairwise([*borders, len(self.places)])]

    def top(self, n: int) -> npt.NDArray[np.float64]:
        """The share of the text in its most frequent n-gram; of several equally frequent ones the longest counts.
        0 if none occurs twice."""
        self._advance(n)
        best = np.zeros(self.count, np.int64)
        chars = np.minimum(self.chars[self.places + n] - self.chars[self.places], 255).astype(np.uint64)
        keys = (self._keys() & ~np.uint64(255)) | chars  # an n-gram has one length: it may stand in the key
        ranked = keys.copy()
        for piece in self._pieces():
            ranked[piece].sort()
        starts = _starts(ranked)
        runs = np.diff(starts, append=len(ranked))
        many = np.flatnonzero(runs > 1)
        firsts = ranked[starts[many]]
        if len(many):
            documents = (firsts >> DOCUMENT_BITS).astype(np.int64)
            borders = _starts(documents)
            weighed = (runs[many] << 8) | (firsts & np.uint64(255)).astype(np.int64)
            best[documents[borders]] = np.maximum.reduceat(weighed, borders)
        self._keep(_perhaps_among(keys, firsts))
        return np.minimum(ratio((best >> 8) * (best & 255), self.total), 1.0)

    def duplicates(self, wanted: Sequence[int]) -> dict[int, npt.NDArray[np.float64]]:
        """By n, the share of the text in n-grams that occurred earlier in it, each character counted once."""
        shares = {n: np.zeros(self.count) for n in wanted}
        for n in wanted:
            self._advance(n)
            repeated, again = _repeated(self._keys(), self._pieces())
            shares[n] = self._covered(self.places[again], n)
            self._keep(repeated)
            if not len(self.places):
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


def _perhaps_among(keys: Hashes, wanted: Hashes) -> Mask:
    """Which keys are among those wanted, and a few more: a small table of some bits is much faster than a search."""
    table = np.zeros(1 << int(TABLE_BITS), bool)
    low, shift = np.uint64((1 << int(TABLE_BITS)) - 1), np.uint64(8)
    table[((wanted >> shift) & low).astype(np.int64)] = True
    return table[((keys >> shift) & low).astype(np.int64)]


def _repeated(keys: Hashes, pieces: Sequence[slice]) -> tuple[Mask, Mask]:
    """Which keys occur more than once, and which of those are not the first of their kind."""
    repeated, again = np.zeros(len(keys), bool), np.zeros(len(keys), bool)
    if len(keys):
        order = np.concatenate([piece.start + np.argsort(keys[piece]) for piece in pieces])
        starts = _starts(keys[order])
        sizes = np.diff(starts, append=len(keys))
        repeated[order] = np.repeat(sizes > 1, sizes)
        again[:] = repeated
        again[np.minimum.reduceat(order, starts)] = False
    return repeated, again
