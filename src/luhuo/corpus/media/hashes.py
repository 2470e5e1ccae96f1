"""Perceptual hashes of pictures, 64 bits each: equal for pictures that look alike, near for nearly alike ones.

`dhash` keeps whether the light grows from each point to the next (Krawetz 2013), `phash` the signs of the lowest
frequencies of a cosine transform (Zauner 2010, section 3.2). They err on different pictures, so both are asked.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

SIDE, KEPT = 32, 8


def dhash(small: np.ndarray) -> int:
    """small: (8, 9) brightness."""
    return _bits(small[:, 1:] > small[:, :-1])


def phash(picture: np.ndarray) -> int:
    """picture: (32, 32) brightness."""
    basis = _cosines()
    low = (basis @ picture.astype(np.float64) @ basis.T).round(6).ravel()  # (8, 8), without rounding noise
    return _bits(low > np.median(low[1:]))


def is_flat(picture: np.ndarray) -> bool:
    """Whether there is nothing to see: all such pictures would have the same hashes."""
    return float(np.asarray(picture, np.float64).std()) < 2.0


@lru_cache
def _cosines() -> np.ndarray:
    """(8, 32): the lowest cosines (DCT-II)."""
    places = np.arange(SIDE) + 0.5
    return np.cos(np.pi / SIDE * np.outer(np.arange(KEPT), places))


def _bits(flags: np.ndarray) -> int:
    return int.from_bytes(np.packbits(flags.ravel()).tobytes(), "big")
