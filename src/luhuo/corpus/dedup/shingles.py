"""Shingles: the overlapping pieces of a text, as 64-bit numbers (Broder 1997), for many texts at once.

A piece of characters is five long where it begins with a character of a script without blanks (Chinese, Japanese,
Thai), six long elsewhere; so no language need be known, and a text in two languages is one set of pieces. Five words,
the custom for English, are a choice: a word of five letters is one of the five edited at 5% of the letters, so that
such a copy keeps a tenth of its pieces (docs/corpus-dedup.md has the figures).

The number of a piece is the sum of its characters' random numbers times an odd random factor per place, modulo 2^64
(multilinear hashing, Lemire and Kaser 2014), mixed once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from luhuo.corpus.dedup.folding import Folded, dense_table, word_table

Unit = Literal["characters", "words"]

DENSE_LENGTH, OPEN_LENGTH, WORDS = 5, 6, 5
VERSION = 1
SEED = 0x1F3A

U64 = NDArray[np.uint64]


def mix(numbers: U64) -> U64:
    """A bijection of 64-bit numbers whose every output bit depends on every input bit (SplitMix64's finaliser)."""
    mixed = numbers ^ (numbers >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


@lru_cache(maxsize=1)
def character_numbers() -> U64:
    """A random number for each code point: (0x110000,)."""
    return mix(np.arange(0x110000, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(SEED))


@lru_cache(maxsize=8)
def factors(count: int) -> U64:
    """Odd random numbers, one a place."""
    return mix(np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03)) | np.uint64(1)


def window_sums(values: U64, length: int) -> U64:
    """Multilinear hashes of all windows of a length: (values - length + 1,)."""
    count = max(len(values) - length + 1, 0)
    total = np.zeros(count, np.uint64)
    for place, factor in enumerate(factors(length)):
        total += values[place : place + count] * factor
    return total


def shingles(folded: Folded, unit: Unit = "characters") -> tuple[U64, NDArray[np.int64]]:
    """(numbers of the pieces, where each text's begin and at last the end). A text shorter than a piece is one."""
    if unit == "words":
        found = tokens(folded)
        counted = np.concatenate(([0], np.cumsum(found.is_word)))
        values, starts = found.values[found.is_word], counted[found.starts]
        lengths = np.full(len(values), WORDS, np.int64)
    else:
        values, starts = character_numbers()[folded.codes], folded.starts
        lengths = np.where(dense_table()[folded.codes], DENSE_LENGTH, OPEN_LENGTH)
    return _cut(values, starts, lengths)


@dataclass(frozen=True)
class Tokens:
    """Texts as tokens: a character of a dense script, a run of other letters and digits, a mark of punctuation."""

    values: U64
    """A number for each token."""
    is_word: NDArray[np.bool_]
    """Whether it is no mark of punctuation."""
    first: NDArray[np.int64]
    """Where each begins among the folded characters, and at last the end: (tokens + 1,)."""
    starts: NDArray[np.int64]
    """Where each text's tokens begin, and at last the end: (texts + 1,)."""


def tokens(folded: Folded) -> Tokens:
    """The tokens of folded texts."""
    codes, count = folded.codes, len(folded.codes)
    joins = word_table()[codes] & ~dense_table()[codes]  # may go on with the character before
    begins = np.ones(count, np.bool_)
    near = np.diff(folded.places) == 1
    begins[1:] = ~(joins[1:] & joins[:-1] & near)
    begins[folded.starts[:-1][folded.starts[:-1] < count]] = True
    first = np.flatnonzero(begins)
    place = np.arange(count) - np.repeat(first, np.diff(np.append(first, count)))
    numbers = character_numbers()[codes] * factors(64)[place & 63]
    values = np.add.reduceat(numbers, first) if count else np.zeros(0, np.uint64)
    starts = np.searchsorted(first, folded.starts).astype(np.int64)
    return Tokens(mix(values), word_table()[codes[first]], np.append(first, count), starts)


def _cut(values: U64, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> tuple[U64, NDArray[np.int64]]:
    """Windows that lie in one text; of a text in which none does, the one from its begin to its end."""
    longest = max(DENSE_LENGTH, OPEN_LENGTH, WORDS)
    padded = np.concatenate((values, np.zeros(longest, np.uint64)))
    sums = window_sums(padded, longest - 1)[: len(values)]
    extra = padded[longest - 1 : longest - 1 + len(values)] * factors(longest)[-1]
    sums = mix(np.where(lengths == longest, sums + extra, sums))
    sizes = np.diff(starts)
    room = np.repeat(starts[1:], sizes) - np.arange(len(values))  # characters from here to the end of the text
    inside = lengths <= room
    counted = np.concatenate(([0], np.cumsum(inside)))
    empty = (counted[starts[1:]] == counted[starts[:-1]]) & (sizes > 0)
    for number in np.flatnonzero(empty):
        part = values[starts[number] : starts[number + 1]]
        sums[starts[number]] = mix(np.array([(part * factors(longest)[: len(part)]).sum(dtype=np.uint64)]))[0]
        inside[starts[number]] = True
    counted = np.concatenate(([0], np.cumsum(inside)))
    return sums[inside], counted[starts].astype(np.int64)
