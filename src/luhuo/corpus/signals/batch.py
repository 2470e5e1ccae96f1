"""Many texts as one array of code points, with their words, lines and paragraphs as arrays of positions.

A rule that looks at characters costs Python about a microsecond each; over arrays it costs a few nanoseconds. So the
texts of a batch are joined, every text followed by one line feed, and whatever a signal needs is computed once and
kept. All counts are whole numbers, so no value depends on which texts share a batch.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from luhuo.corpus.signals import characters
from luhuo.corpus.signals.characters import HAN, SINGLE, SPACE, WORD, Codes, Mask

Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Values = dict[str, npt.NDArray[Any]]
"""Name of a signal -> its value for each document of a batch."""

UNSPACED = frozenset(("zh", "ja", "th", "lo", "km", "my", "yue", "wuu", "lzh"))
"""Languages whose units for n-grams are characters."""

BASE = np.uint64(0x9E3779B97F4A7C15)
INVERSE = np.uint64(pow(int(BASE), -1, 1 << 64))
FEW = 6
"""Up to so many characters are compared with each."""
KEPT_POWERS = 1 << 20
"""Powers up to so many characters are computed once."""
MIX = np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True)
class Spans:
    """Pieces of text: `starts` and `ends` (exclusive) in the batch's codes, and the document of each."""

    starts: Integers
    ends: Integers
    documents: Integers

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> Integers:
        """Characters of each."""
        return self.ends - self.starts


class Batch:
    """Texts of one language, measured together. A lone surrogate is a character like any other."""

    def __init__(self, texts: Sequence[str], lang: str) -> None:
        self.texts, self.lang, self.count = texts, lang, len(texts)
        self.joined = "\n".join([*texts, ""])
        self.codes: Codes = np.frombuffer(self.joined.encode("utf-32-le", "surrogatepass"), np.uint32)
        lengths = np.fromiter((len(text) for text in texts), np.int64, self.count)
        self.ends: Integers = np.cumsum(lengths + 1) - 1
        self.starts: Integers = self.ends - lengths
        self.slots: dict[int, Integers] = {}
        """What `phrases` keeps here for the next set of phrases: the slot of each place, by length of the anchor."""

    @functools.cached_property
    def kinds(self) -> npt.NDArray[np.uint8]:
        """The kind of each character (`characters.kinds`)."""
        return np.take(characters.kinds(), self.codes)

    def of_kind(self, bits: int) -> Mask:
        """Which characters have any of these bits."""
        return (self.kinds & np.uint8(bits)) != 0

    def among(self, wanted: str | frozenset[str], places: Integers | None = None) -> Mask:
        """Which characters are one of these; of those at `places` alone, if given."""
        if places is not None:
            return np.take(characters.table_of(wanted), self.codes[places])
        if len(wanted) > FEW:
            return np.take(characters.table_of(wanted), self.codes)
        found = np.zeros(len(self.codes), bool)
        for character in wanted:  # a comparison takes a tenth of a look-up
            found |= self.codes == np.uint32(ord(character))
        return found

    def per_document(self, mask: Mask) -> Integers:
        """How many characters of each document are marked."""
        if not self.count:
            return np.zeros(0, np.int64)
        return np.add.reduceat(mask, self.starts, dtype=np.int64)

    def document_of(self, positions: Integers) -> Integers:
        """The document in which each position lies."""
        return np.searchsorted(self.ends, positions, side="left")

    def count_of(self, documents: Integers) -> Integers:
        """How often each document is named."""
        return np.bincount(documents, minlength=self.count)

    def total(self, documents: Integers, amounts: npt.NDArray[Any]) -> Integers:
        """The sum of whole amounts by document."""
        return np.bincount(documents, weights=amounts, minlength=self.count).astype(np.int64)

    @functools.cached_property
    def visible(self) -> Integers:
        """Characters of each document that are no blanks."""
        return self.per_document(~self.of_kind(SPACE))

    @functools.cached_property
    def han(self) -> Integers:
        """Han characters of each document."""
        return self.per_document(self.of_kind(HAN))

    @functools.cached_property
    def lower(self) -> Codes:
        """The codes with A-Z in small letters."""
        capital = (self.codes - np.uint32(ord("A"))) < np.uint32(26)
        return self.codes + capital.astype(np.uint32) * np.uint32(32)

    @functools.cached_property
    def lowered(self) -> str:
        """The text in small letters, every character in its place: İ, the one whose small form is two, stays."""
        return self.joined.replace("\u0130", "I").lower()

    @functools.cached_property
    def words(self) -> Spans:
        """What stands between blanks."""
        ink = ~self.of_kind(SPACE)
        before = np.concatenate(([False], ink[:-1]))
        starts = np.flatnonzero(ink & ~before)
        ends = np.flatnonzero(before & ~ink)  # the last character is a line feed, so every word ends inside
        return Spans(starts, ends, self._documents(starts))

    @functools.cached_property
    def tokens(self) -> Spans:
        """Runs of letters and digits, and single characters of scripts without blanks; no punctuation."""
        word, single = self.of_kind(WORD), self.of_kind(SINGLE)
        single &= word
        joint = word & ~single
        before, after = np.concatenate(([False], joint[:-1])), np.concatenate((joint[1:], [False]))
        starts = np.flatnonzero(single | (joint & ~before))
        ends = np.flatnonzero(single | (joint & ~after)) + 1
        return Spans(starts, ends, self._documents(starts))

    @functools.cached_property
    def units(self) -> Spans:
        """What n-grams are made of: words, or, where no blanks part them, `tokens`."""
        return self.tokens if self.lang in UNSPACED else self.words

    @functools.cached_property
    def lines(self) -> Spans:
        """Lines that are not empty, without the blanks around them."""
        breaks = np.flatnonzero(self.codes == np.uint32(10))
        ink = np.flatnonzero(~self.of_kind(SPACE))
        first = np.searchsorted(ink, np.concatenate(([0], breaks[:-1] + 1)))
        last = np.searchsorted(ink, breaks)
        full = last > first
        starts, ends = ink[first[full]], ink[last[full] - 1] + 1
        self._line_numbers = np.flatnonzero(full)
        return Spans(starts, ends, self.document_of(starts))

    @functools.cached_property
    def paragraphs(self) -> Spans:
        """Runs of lines without an empty one between them."""
        lines = self.lines
        if not len(lines):
            return lines
        fresh = np.ones(len(lines), bool)
        fresh[1:] = (np.diff(self._line_numbers) > 1) | (np.diff(lines.documents) > 0)
        first = np.flatnonzero(fresh)
        last = np.concatenate((first[1:] - 1, [len(lines) - 1]))
        return Spans(lines.starts[first], lines.ends[last], lines.documents[first])

    @functools.cached_property
    def _sums(self) -> tuple[Hashes, Hashes]:
        """Sums of code × BASE**place up to each place, and BASE**-place."""
        size = len(self.codes)
        rounded = 1 << max(16, (size - 1).bit_length())
        powers, inverse = _powers(rounded) if rounded <= KEPT_POWERS else _powers.__wrapped__(size)
        sums = np.zeros(size + 1, np.uint64)
        np.cumsum((self.lower + np.uint32(1)) * powers[:size], out=sums[1:])
        return sums, inverse

    def hashes(self, spans: Spans) -> Hashes:
        """A 64-bit hash of each span's text, capitals of ASCII as small letters."""
        sums, inverse = self._sums
        found = (sums[spans.ends] - sums[spans.starts]) * inverse[spans.starts]
        found ^= found >> np.uint64(32)
        found *= MIX
        return found ^ (found >> np.uint64(29))

    @functools.cached_property
    def word_hashes(self) -> Hashes:
        """Hashes of `words`."""
        return self.hashes(self.words)

    @functools.cached_property
    def unit_hashes(self) -> Hashes:
        """Hashes of `units`."""
        return self.hashes(self.units) if self.lang in UNSPACED else self.word_hashes

    def _documents(self, starts: Integers) -> Integers:
        """The document of each of many sorted positions."""
        first = np.searchsorted(starts, np.concatenate((self.starts, [len(self.codes)])))
        return np.repeat(np.arange(self.count), np.diff(first))


@functools.lru_cache(maxsize=4)
def _powers(size: int) -> tuple[Hashes, Hashes]:
    """BASE and its inverse to the powers from 1 on."""
    return np.multiply.accumulate(np.full(size, BASE)), np.multiply.accumulate(np.full(size, INVERSE))


def text_hash(text: str) -> int:
    """The hash that `Batch.hashes` gives a span with this text."""
    batch = Batch([text], "en")
    return int(batch.hashes(Spans(batch.starts, batch.ends, np.zeros(1, np.int64)))[0])


def ratio(parts: npt.NDArray[Any], wholes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """parts / wholes, 0 where there is no whole."""
    return np.divide(parts, wholes, out=np.zeros(len(wholes)), where=wholes > 0)
