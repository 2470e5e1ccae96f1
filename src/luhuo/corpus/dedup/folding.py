"""The looser form in which texts are compared: no case, no blanks, one width of punctuation.

What carries meaning stays: digits, letters, operators, brackets. So 1 + 1 and 1 - 1 differ, "Hello, World" and
"hello，world" do not. A character is folded to at most one character, so that a table does a million of them at once.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

VERSION = 1
"""Part of the name of every signature: raise it when a character is folded in another way."""

CHINESE_PUNCTUATION = str.maketrans("。、“”„‘’「」『』《》〈〉【】〔〕—–…·", '.,"""\'\'""""<><>[][]--..')
"""Forms that are typed one for the other. Full-width ASCII is folded by its distance from ASCII."""
INVISIBLE = ("Cc", "Cf", "Zs", "Zl", "Zp")
"""Unicode categories that are left out: blanks, line ends, controls, joiners, direction marks."""
CASED = 0x1E944
"""No character from here on has a lower case."""

WIDE = ((0x1100, 0x11FF), (0x2E80, 0x9FFF), (0xA960, 0xA97F), (0xAC00, 0xD7FF), (0xF900, 0xFAFF), (0x1B000, 0x1B16F),
        (0x20000, 0x323AF))  # fmt: skip
DENSE = (*WIDE, (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x19E0, 0x19FF))
"""Scripts written without blanks between words: Han, Kana, Hangul, Thai, Lao, Burmese, Khmer."""


@dataclass(frozen=True)
class Folded:
    """Texts behind one another as folded code points."""

    codes: NDArray[np.uint32]
    starts: NDArray[np.int64]
    """Where each text begins in `codes`, and at last the end: (texts + 1,)."""
    places: NDArray[np.int64]
    """Of each folded character its place in the texts behind one another, so that what is found can be cut there."""

    def text(self, number: int) -> NDArray[np.uint32]:
        """The code points of one text."""
        return self.codes[self.starts[number] : self.starts[number + 1]]


def fold(texts: Sequence[str]) -> Folded:
    """The texts in their looser form."""
    points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    codes = table()[points]
    places = np.flatnonzero(codes)
    starts = np.searchsorted(places, np.concatenate(([0], ends)))
    return Folded(codes[places], starts.astype(np.int64), places)


def fold_text(text: str) -> str:
    """One text in its looser form, as a string."""
    return fold([text]).codes.tobytes().decode("utf-32-le", "surrogatepass")


@lru_cache(maxsize=1)
def table() -> NDArray[np.uint32]:
    """Code point to folded code point, 0 for what is left out: (0x110000,) uint32."""
    found = np.arange(0x110000, dtype=np.uint32)
    for point in range(CASED):
        lower = chr(point).lower()
        if len(lower) == 1:
            found[point] = ord(lower)
    for point, to in CHINESE_PUNCTUATION.items():
        found[point] = to
    found[0xFF01:0xFF5F] = found[0x21:0x7F]
    for point in range(0x10000):
        if unicodedata.category(chr(point)) in INVISIBLE:
            found[point] = 0
    found[0xE0000:0xE1000] = 0  # tags and variation selectors
    found[0xFE00:0xFE10] = 0
    return found


@lru_cache(maxsize=1)
def dense_table() -> NDArray[np.bool_]:
    """Whether a code point is of a script without blanks between words: (0x110000,) bool."""
    found = np.zeros(0x110000, np.bool_)
    for first, last in DENSE:
        found[first : last + 1] = True
    return found


@lru_cache(maxsize=1)
def word_table() -> NDArray[np.bool_]:
    """Whether a code point is a letter, mark or digit: (0x110000,) bool."""
    found = np.zeros(0x110000, np.bool_)
    for point in range(0x323B0):
        found[point] = unicodedata.category(chr(point))[0] in "LMN"
    return found


def columns(folded: Folded) -> NDArray[np.int64]:
    """How much each text says: its folded characters, those of dense scripts counted twice: (texts,)."""
    width = np.concatenate(([0], np.cumsum(dense_table()[folded.codes], dtype=np.int64)))
    lengths = np.diff(folded.starts)
    return lengths + width[folded.starts[1:]] - width[folded.starts[:-1]]
