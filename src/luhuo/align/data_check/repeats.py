"""Rows that come again: exactly, but for blanks and letter case, or nearly (MinHash, Broder 1997)."""

from __future__ import annotations

import hashlib

import numpy as np

from luhuo.core.seeds import derive_seed
from luhuo.corpus.normalise import normalise

GRAM = 5
"""Characters of a shingle."""
SLOTS, BANDS = 64, 8
"""Rows that agree in all slots of a band are compared: likely from a similarity of 0.8 on."""
NEAR = 0.85
"""Share of equal slots from which on two rows are near duplicates: an estimate of the shingles they share."""
SHINGLES = 512
"""A longer text is represented by those of its shingles with the smallest hashes."""
SHORTEST = 50
"""Characters below which a small difference is no small difference."""
MOST_ROWS = 200_000
"""Rows that are compared for near duplicates; bounds memory to some 200 MB."""


def key_of(text: str) -> int:
    """64 bits that are equal for texts that differ in blanks and letter case only."""
    plain = " ".join(normalise(text).lower().split())
    return int.from_bytes(hashlib.blake2b(plain.encode("utf-8", "replace"), digest_size=8).digest(), "little")


class Exact:
    """Which row had a text first."""

    def __init__(self) -> None:
        self._first: dict[int, int] = {}

    def see(self, key: int, row: int) -> int | None:
        """The number of the first row with this key, None if it is this one."""
        first = self._first.setdefault(key, row)
        return None if first == row else first


class Near:
    """Which earlier row a text is nearly equal to."""

    def __init__(self) -> None:
        random = np.random.default_rng(derive_seed(0, "minhash"))
        self._factors = random.integers(1, 2**63, SLOTS, dtype=np.uint64) | np.uint64(1)
        self._shifts = random.integers(0, 2**63, SLOTS, dtype=np.uint64)
        self._tables: list[dict[bytes, int]] = [{} for _ in range(BANDS)]
        self._signatures: list[np.ndarray] = []
        self._rows: list[int] = []

    @property
    def full(self) -> bool:
        """Whether no more rows are compared."""
        return len(self._rows) >= MOST_ROWS

    def see(self, text: str, row: int) -> int | None:
        """The number of an earlier row that is nearly this one, or None. A text that is too short is none."""
        text = " ".join(normalise(text).lower().split())
        if len(text) < SHORTEST or self.full:
            return None
        signature = self._signature(text)
        bands = [part.tobytes() for part in np.split(signature, BANDS)]
        found = None
        for place in {table[band] for table, band in zip(self._tables, bands, strict=True) if band in table}:
            if (self._signatures[place] == signature).mean() >= NEAR:
                found = self._rows[place] if found is None else min(found, self._rows[place])
        if found is None:  # what is near to a kept row need not be kept
            for table, band in zip(self._tables, bands, strict=True):
                table.setdefault(band, len(self._rows))
            self._signatures.append(signature)
            self._rows.append(row)
        return found

    def _signature(self, text: str) -> np.ndarray:
        """The smallest hash of the text's shingles under each of the functions: (SLOTS,) uint32."""
        with np.errstate(over="ignore"):
            points = np.frombuffer(text.encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.uint64)
            grams = np.zeros(len(points) - GRAM + 1, dtype=np.uint64)
            for i in range(GRAM):
                grams = grams * np.uint64(0x100000001B3) + points[i : len(points) - GRAM + 1 + i]
            hashes = np.unique((grams ^ (grams >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9))
            if len(hashes) > SHINGLES:
                hashes = hashes[:SHINGLES]  # sorted
            return (
                ((hashes[None] * self._factors[:, None] + self._shifts[:, None]) >> np.uint64(32))
                .min(1)
                .astype(np.uint32)
            )
