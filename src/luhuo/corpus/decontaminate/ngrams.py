"""Words and Han characters of a text as numbers, and hashes of runs of them, without a loop over characters.

A unit is a word or one Han character. Case, marks, blanks and compatibility forms (NFKC) make no difference, so that a
text is found again in whatever layout. Hashes are multilinear (Carter and Wegman 1979): equal on every machine.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

HAN_RANGES = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
LONGEST = 256
"""Characters of a word after which the multipliers come again, and units of a run likewise."""
_BMP, _RARE = 0x10000, 0x20000
BLANK = 0x20

Hashes = np.ndarray
"""(n,) uint64."""


@dataclass(frozen=True)
class Units:
    """The units of one or more texts, in order. `starts` and `ends` are places in these texts put together."""

    hashes: Hashes
    starts: np.ndarray
    ends: np.ndarray
    han: np.ndarray
    """(n,) bool: whether a unit is a Han character."""
    folded: np.ndarray
    """Code points of the folded characters of all units; unit n has those up to `bounds[n + 1]`."""
    bounds: np.ndarray

    def __len__(self) -> int:
        return len(self.hashes)

    def texts(self) -> list[str]:
        """Each unit as folded text."""
        whole = self.folded.astype("<u4").tobytes().decode("utf-32-le")
        return [whole[start:end] for start, end in zip(self.bounds, self.bounds[1:], strict=False)]


def units_of(text: str) -> Units:
    """The units of a text. Places are those in its NFC form, which a text of a corpus has already."""
    codes = np.frombuffer(_composed(text).encode("utf-32-le", "replace"), dtype=np.uint32)
    tables = _tables()
    small = codes if not codes.size or codes.max() < _BMP else _within_tables(codes)
    origin = None
    if codes.size and tables.many[small].any():
        small, origin = _spread(small, tables)
    folded = tables.fold[small]
    kinds = tables.kind[folded]
    if codes.size and codes.max() >= _RARE:  # so many Han characters, of which the tables hold one for all
        source = codes if origin is None else codes[origin]
        folded = np.where((source >= _RARE) & (kinds == _HAN), source, folded)
    before, behind = np.zeros_like(kinds), np.zeros_like(kinds)
    before[1:], behind[:-1] = kinds[:-1], kinds[1:]
    single = kinds == _HAN
    word = kinds == _WORD
    starts = np.flatnonzero(single | (word & (before != _WORD)))
    ends = np.flatnonzero(single | (word & (behind != _WORD))) + 1
    characters = folded[kinds != _NONE]
    bounds = np.zeros(len(starts) + 1, dtype=np.int64)
    np.cumsum(ends - starts, out=bounds[1:])
    han = single[starts]
    if origin is not None:
        starts, ends = origin[starts], origin[ends - 1] + 1
    return Units(_unit_hashes(characters, bounds), starts, ends, han, characters, bounds)


def gram_hashes(hashes: Hashes, size: int) -> Hashes:
    """A hash of each run of `size` units: (n - size + 1,) uint64, empty for fewer units."""
    count = len(hashes) - size + 1
    if count < 1:
        return np.zeros(0, dtype=np.uint64)
    multipliers = _tables().multipliers
    total = np.full(count, size, dtype=np.uint64) * multipliers[-1]
    for place in range(size):
        total += hashes[place : place + count] * multipliers[place % LONGEST]
    return _mixed(total)


def hash_of(hashes: Hashes) -> int:
    """One hash of a whole run of units; equal to the only element of `gram_hashes` over its length."""
    return int(gram_hashes(hashes, len(hashes))[0]) if len(hashes) else 0


class Lookup:
    """A fixed set of hashes to be found among many; `number` counts them in ascending order."""

    def __init__(self, hashes: Hashes) -> None:
        self.known = np.unique(hashes)
        bits = max(16, min(33, int(len(self.known) * 16).bit_length()))
        self._mask = np.uint64((1 << bits) - 1)
        places = self.known & self._mask
        self._marks = np.zeros(1 << (bits - 3), dtype=np.uint8)
        np.bitwise_or.at(self._marks, places >> np.uint64(3), _bit(places))

    def find(self, queries: Hashes) -> tuple[np.ndarray, np.ndarray]:
        """(places in `queries`, numbers) of those that are known: (m,) each."""
        marks = queries & self._mask
        places = np.flatnonzero(self._marks[marks >> np.uint64(3)] & _bit(marks))
        wanted = queries[places]
        numbers = np.searchsorted(self.known, wanted)
        right = numbers < len(self.known)
        right[right] = self.known[numbers[right]] == wanted[right]
        return places[right], numbers[right]

    def number(self, queries: Hashes) -> np.ndarray:
        """The numbers of hashes that are all known."""
        return np.searchsorted(self.known, queries)


def run_hashes(hashes: Hashes, bounds: np.ndarray) -> Hashes:
    """`hash_of` of each run of units from bound to bound, none of them empty: (n,) uint64."""
    lengths = np.diff(bounds)
    within = np.arange(len(hashes)) - np.repeat(bounds[:-1], lengths)
    multipliers = _tables().multipliers
    totals = np.add.reduceat(hashes * multipliers[within % LONGEST], bounds[:-1])
    return _mixed(totals + lengths.astype(np.uint64) * multipliers[-1])


def joined(texts: Sequence[str]) -> tuple[str, np.ndarray]:
    """Texts as one, and where each begins in it; (n + 1,), the last number being the length."""
    composed = [_composed(text) for text in texts]
    begins = np.zeros(len(composed) + 1, dtype=np.int64)
    np.cumsum([len(text) + 1 for text in composed], out=begins[1:])
    return "\n".join(composed), begins


_NONE, _WORD, _HAN = 0, 1, 2


@dataclass(frozen=True)
class _Tables:
    fold: np.ndarray
    """What a character becomes; a character that becomes several has its first here."""
    kind: np.ndarray
    many: np.ndarray
    """Whether a character becomes several of which one is a letter or digit (ﬁ, ½, ㎏)."""
    many_starts: np.ndarray
    many_lengths: np.ndarray
    many_codes: np.ndarray
    multipliers: Hashes


@cache
def _tables() -> _Tables:
    fold = np.arange(_BMP, dtype=np.uint32)
    kind = np.zeros(_BMP, dtype=np.uint8)
    starts, lengths = np.zeros(_BMP, dtype=np.int64), np.ones(_BMP, dtype=np.int64)
    codes: list[int] = []
    for code in range(_BMP):
        form = unicodedata.normalize("NFKC", chr(code)).casefold()
        kind[code] = _HAN if _is_han(code) else _WORD if chr(code).isalnum() else _NONE
        letters = any(character.isalnum() for character in form)
        if len(form) == 1 and ord(form) < _BMP:
            fold[code] = ord(form)
        elif letters:
            starts[code], lengths[code] = len(codes), len(form)
            codes += map(ord, form)
        else:
            fold[code] = BLANK
    multipliers = _mixed(np.arange(1, LONGEST + 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return _Tables(
        fold, kind, lengths > 1, starts, lengths, np.array(codes, dtype=np.uint32), multipliers | np.uint64(1)
    )


def _bit(places: Hashes) -> np.ndarray:
    return np.left_shift(np.uint8(1), (places & np.uint64(7)).astype(np.uint8))


def _is_han(code: int) -> bool:
    return any(low <= code <= high for low, high in HAN_RANGES)


def _composed(text: str) -> str:
    return text if text.isascii() or unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def _within_tables(codes: np.ndarray) -> np.ndarray:
    """Characters beyond the tables as one within: rare Han characters as some Han character, others folded."""
    small = codes.copy()
    for code in np.unique(codes[codes >= _BMP]).tolist():
        form = unicodedata.normalize("NFKC", chr(code)).casefold()
        known = len(form) == 1 and ord(form) < _BMP
        small[codes == code] = ord(form) if known else 0x4E00 if _is_han(code) else 0x61 if form.isalnum() else BLANK
    return small


def _spread(codes: np.ndarray, tables: _Tables) -> tuple[np.ndarray, np.ndarray]:
    """The text with characters in the place of those that become several, and where each comes from."""
    lengths = tables.many_lengths[codes]
    origin = np.repeat(np.arange(len(codes)), lengths)
    spread = codes[origin]
    first = np.zeros(len(codes), dtype=np.int64)
    np.cumsum(lengths[:-1], out=first[1:])
    several = tables.many[spread]
    within = np.arange(len(spread)) - first[origin]
    spread[several] = tables.many_codes[tables.many_starts[spread[several]] + within[several]]
    return spread, origin


def _unit_hashes(characters: np.ndarray, bounds: np.ndarray) -> Hashes:
    if len(bounds) < 2:
        return np.zeros(0, dtype=np.uint64)
    lengths = np.diff(bounds)
    within = np.arange(len(characters)) - np.repeat(bounds[:-1], lengths)
    products = (characters.astype(np.uint64) + np.uint64(1)) * _tables().multipliers[within % LONGEST]
    return _mixed(np.add.reduceat(products, bounds[:-1]))


def _mixed(values: Hashes) -> Hashes:
    """All bits of a number spread over all others (the last step of splitmix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
