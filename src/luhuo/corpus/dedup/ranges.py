"""Sorting out of core: 64-bit keys divided into ranges, each of which fits into memory, and groups of equal keys."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from luhuo.corpus.factory.executors import Unit

KEYS = 2**64


def key_ranges(title: str, keys: int, at_once: int, size: int) -> list[Unit]:
    """Units that divide all 64-bit keys evenly (`payload`: the bounds `low` and `high`, both included), so that each
    holds about `at_once` of `keys` keys. They depend on the number of keys only. size: bytes of all, for progress."""
    count = max(1, -(-keys // at_once))
    bounds = [KEYS * number // count for number in range(count + 1)]
    return [
        Unit(f"{title}-{number:05d}", size // count, {"low": low, "high": high - 1})
        for number, (low, high) in enumerate(itertools.pairwise(bounds))
    ]


def group_starts(keys: NDArray[np.generic]) -> NDArray[np.int64]:
    """Where groups of equal neighbours begin; rows of a matrix are equal as a whole."""
    if not len(keys):
        return np.zeros(0, np.int64)
    differs = keys[1:] != keys[:-1]
    if differs.ndim > 1:
        differs = differs.any(axis=1)
    return np.concatenate(([0], np.flatnonzero(differs) + 1)).astype(np.int64)


def groups_by_size(starts: NDArray[np.int64], total: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """(size, starts of the groups of that size), from 2 upwards."""
    sizes = np.diff(np.append(starts, total))
    for size in np.unique(sizes):
        if size > 1:
            yield int(size), starts[sizes == size]
