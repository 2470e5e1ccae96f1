"""What kind of character each code point is, as one table that numpy looks up for a whole batch at once."""

from __future__ import annotations

import functools
import re
import sys
import unicodedata

import numpy as np
import numpy.typing as npt

SPACE, WORD, ALPHA, DIGIT, HAN, SINGLE, UPPER = 1, 2, 4, 8, 16, 32, 64
"""Bits of a kind. WORD: letters, digits and marks; SINGLE: written without spaces between words, so that each
character counts as a unit of its own; UPPER: capital letters."""

HAN_RANGES = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF))
UNSPACED_RANGES = (
    *HAN_RANGES, (0x3005, 0x3007), (0x3041, 0x30FF), (0x31F0, 0x31FF), (0x0E00, 0x0EFF), (0x1000, 0x109F),
    (0x1780, 0x17FF),
)  # fmt: skip
"""Han, kana, Thai, Lao, Burmese, Khmer."""

Codes = npt.NDArray[np.uint32]
Mask = npt.NDArray[np.bool_]


@functools.cache
def kinds() -> npt.NDArray[np.uint8]:
    """The kind of each of the 0x110000 code points."""
    table = np.zeros(sys.maxunicode + 1, np.uint8)
    every = np.arange(len(table), dtype=np.uint32).tobytes().decode("utf-32-le", "surrogatepass")
    for pattern, bits in ((r"\s+", SPACE), (r"[^\W_]+", WORD), (r"[^\W\d_]+", ALPHA | WORD), (r"\d+", DIGIT | WORD)):
        for run in re.finditer(pattern, every):
            table[run.start() : run.end()] |= bits
    for code in range(0x20000):
        category = unicodedata.category(chr(code))
        if category in ("Mn", "Mc"):
            table[code] |= WORD
        elif category in ("Lu", "Lt"):
            table[code] |= UPPER
    for first, last in UNSPACED_RANGES:
        table[first : last + 1] |= SINGLE
    for first, last in HAN_RANGES:
        table[first : last + 1] |= HAN | WORD | ALPHA
    return table


@functools.lru_cache(maxsize=64)
def table_of(characters: str | frozenset[str]) -> Mask:
    """A table in which just these characters are True."""
    table = np.zeros(sys.maxunicode + 1, bool)
    table[[ord(character) for character in characters]] = True
    return table
