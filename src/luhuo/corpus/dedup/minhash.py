"""MinHash signatures and their bands (Broder 1997; Indyk and Motwani 1998).

The signatures are made by `rensa` from the numbers of the pieces. Two texts whose sets of pieces have the Jaccard
similarity J agree in each of the K places of their signatures with probability J. The places are divided into bands of
`rows`; two texts that agree in all places of a band are a candidate pair: 1 - (1 - J^rows)^bands. Candidates are then
compared themselves (`similarity.py`), so that the bands are chosen for what they let through, not for what they stop.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luhuo.core.errors import missing_extra
from luhuo.corpus.dedup import folding, shingles
from luhuo.corpus.dedup.shingles import U64, mix

SEED = 20_110
ROW_SHINGLES = 1_000_000
"""A text of more pieces is signed in parts: the smallest of the smallest is the smallest."""
BATCH_TEXTS = 256
"""Texts signed together: few enough that the memory of the last ones is used again."""
WANTED = 0.95
"""Share of pairs at the threshold that become candidates."""
MOST_PLACES = 256


def algorithm(unit: shingles.Unit, places: int) -> str:
    """The name under which signatures may be compared: everything a number in them depends on."""
    try:
        import rensa
    except ImportError:
        raise missing_extra("rensa", "data") from None
    sketch: Any = rensa
    scheme = f"rensa-{sketch.RMinHash.ALGORITHM_VERSION}"
    pieces = f"{unit}-{shingles.VERSION} fold-{folding.VERSION}"
    return f"minhash {scheme} {pieces} places={places} seed={SEED}"


def rensa_version() -> str:
    """The installed version, for the report."""
    return metadata.version("rensa")


def signatures(numbers: U64, starts: NDArray[np.int64], places: int) -> NDArray[np.uint32]:
    """Signatures of texts whose pieces are `numbers[starts[i]:starts[i + 1]]`: (texts, places). Every text has one."""
    parts, owner = _parts(starts)
    found = np.empty((len(parts) - 1, places), np.uint32)
    for first in range(0, len(found), BATCH_TEXTS):
        last = min(first + BATCH_TEXTS, len(found))
        rows = (parts[first : last + 1] - parts[first]).astype(np.uint64)
        found[first:last] = _digests(numbers[parts[first] : parts[last]], rows, places)
    if len(owner) == len(starts) - 1:
        return found
    return np.minimum.reduceat(found, np.searchsorted(owner, np.arange(len(starts) - 1)), axis=0)


def _parts(starts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(borders of parts, text of each part): long texts in parts of `ROW_SHINGLES`."""
    if np.diff(starts).max(initial=0) <= ROW_SHINGLES:
        return starts, np.arange(len(starts) - 1)
    borders, owner = [0], []
    for number, (first, last) in enumerate(itertools.pairwise(starts)):
        for begin in range(int(first), int(last), ROW_SHINGLES):
            borders.append(min(begin + ROW_SHINGLES, int(last)))
            owner.append(number)
    return np.array(borders, np.int64), np.array(owner, np.int64)


def _digests(numbers: U64, rows: U64, places: int) -> Sequence[Sequence[int]]:
    import rensa

    sketch: Any = rensa
    return sketch.RMinHash.digest_matrix_from_flat_token_hashes(
        np.ascontiguousarray(numbers), rows, places, SEED
    ).to_rows()


def band_keys(signed: NDArray[np.uint32], rows: int) -> U64:
    """A 64-bit number for each band of each signature, different for equal places in other bands: (texts, bands)."""
    count, places = signed.shape
    bands = signed.reshape(count, places // rows, rows).astype(np.uint64)
    keys = np.arange(1, places // rows + 1, dtype=np.uint64)[None, :] * np.uint64(0x9E3779B97F4A7C15)
    keys = np.repeat(keys, count, axis=0)
    for row in range(rows):
        keys = mix(keys + bands[:, :, row])
    return keys


def candidate_probability(similarity: float, bands: int, rows: int) -> float:
    """The chance that a pair of this Jaccard similarity becomes a candidate."""
    return 1 - (1 - similarity**rows) ** bands


def choose_bands(threshold: float, wanted: float = WANTED) -> tuple[int, int]:
    """(bands, rows): the longest bands with which at least `wanted` of the pairs at the threshold become candidates,
    in at most `MOST_PLACES` places. Longer bands let fewer unlike pairs through."""
    best = (MOST_PLACES, 1)
    for rows in range(1, 17):
        bands = max(1, math.ceil(math.log(1 - wanted) / math.log(1 - threshold**rows)))
        if bands * rows <= MOST_PLACES:
            best = bands, rows
    return best


def curve(bands: int, rows: int) -> list[tuple[float, float]]:
    """(similarity, probability) from 0.1 to 1 in steps of 0.1, as it is printed."""
    return [(step / 10, round(candidate_probability(step / 10, bands, rows), 4)) for step in range(1, 11)]
