"""Hashed n-grams of texts: what a linear classifier sees (Joulin et al. 2017, "Bag of Tricks", section 2).

The features of a text are its token n-grams up to a length (tokens: words, or single characters in scripts without
blanks) and, if wanted, all its sequences of some characters, punctuation and blanks included. Each is a number below
2**bits; different n-grams may share one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from luhuo.corpus.signals.batch import Batch, Integers, Spans
from luhuo.corpus.signals.characters import SPACE

STEP, KIND = np.uint64(0x9FB21C651E98DF25), np.uint64(0xD1342543DE82EF95)
Buckets = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """Features of one kind in all texts of a batch: their numbers, and the text each comes from (sorted)."""

    buckets: Buckets
    spans: Spans


@dataclass(frozen=True)
class Shape:
    """Which features there are."""

    ngrams: int = 2
    letters: int = 4
    bits: int = 18

    def fits(self) -> bool:
        """Whether the numbers are within what stage `text-classifier` allows (a file may say anything)."""
        return 1 <= self.ngrams <= 6 and 0 <= self.letters <= 8 and 10 <= self.bits <= 24

    def groups(self, batch: Batch) -> Iterator[Group]:
        """The features of a batch, kind by kind."""
        tokens = batch.tokens
        hashes = batch.hashes(tokens)
        rolled = np.zeros(len(hashes), np.uint64)
        for n in range(1, self.ngrams + 1):
            size = max(0, len(hashes) - n + 1)
            rolled = (rolled[:size] + hashes[n - 1 :]) * STEP
            last = slice(n - 1, n - 1 + size)
            inside = tokens.documents[:size] == tokens.documents[last]
            spans = Spans(tokens.starts[:size][inside], tokens.ends[last][inside], tokens.documents[:size][inside])
            yield Group(self._buckets(rolled[inside], n), spans)
        if self.letters:
            yield self._letters(batch)

    def _letters(self, batch: Batch) -> Group:
        """Sequences of `letters` characters that hold no line feed, every blank a space."""
        n = self.letters
        codes = np.where(batch.of_kind(SPACE), np.uint32(32), batch.lower).astype(np.uint64)
        size = max(0, len(codes) - n + 1)
        rolled = np.zeros(size, np.uint64)
        for i in range(n):
            rolled = (rolled + codes[i : i + size]) * STEP
        breaks = np.concatenate(([0], np.cumsum(batch.codes == np.uint32(10))))
        starts = np.flatnonzero(breaks[n:] == breaks[:size])
        return Group(self._buckets(rolled[starts], 32 + n), Spans(starts, starts + n, batch.document_of(starts)))

    def _buckets(self, hashes: npt.NDArray[np.uint64], kind: int) -> Buckets:
        mixed = (hashes ^ (hashes >> np.uint64(32)) ^ np.uint64(kind)) * KIND
        return (mixed >> np.uint64(64 - self.bits)).astype(np.int64)


def by_text(batch: Batch, shape: Shape) -> tuple[Buckets, Integers]:
    """All features of a batch, text by text, and where each text's begin (one more: the end)."""
    groups = list(shape.groups(batch))
    documents = np.concatenate([group.spans.documents for group in groups])
    buckets = np.concatenate([group.buckets for group in groups])
    order = np.argsort(documents, kind="stable")
    return buckets[order], np.searchsorted(documents[order], np.arange(batch.count + 1))
