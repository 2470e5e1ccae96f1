"""Pictures that look alike, by their hashes: pairs that share sixteen bits are compared, and those near are joined."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

BANDS = 4
"""Each hash is cut into so many parts; two hashes that differ in fewer bits have one part in common."""
CROWD = 2000
"""In a part that more pictures share, each is compared with this many neighbours only."""


def clusters(dhashes: Sequence[int], phashes: Sequence[int], distance: int) -> list[int]:
    """For each picture the number of the first one (in the order given) that it is joined with, directly or through
    others. Two are joined if neither hash differs in more than `distance` bits."""
    light, waves = np.array(dhashes, np.uint64), np.array(phashes, np.uint64)
    parent = list(range(len(light)))
    for hashes in (light, waves):
        for band in range(BANDS):
            keys = (hashes >> np.uint64(16 * band)) & np.uint64(0xFFFF)
            order = np.argsort(keys, kind="stable")
            edges = np.flatnonzero(np.diff(keys[order], prepend=np.uint64(0x10000), append=np.uint64(0x10000)))
            for start, end in pairwise(edges):
                if end - start > 1:
                    _join(order[start:end], light, waves, distance, parent)
    return [_root(parent, number) for number in range(len(parent))]


def _join(group: np.ndarray, light: np.ndarray, waves: np.ndarray, distance: int, parent: list[int]) -> None:
    for place, number in enumerate(group[:-1]):
        others = group[place + 1 : place + 1 + CROWD]
        near = (_differ(light[others], light[number]) <= distance) & (
            _differ(waves[others], waves[number]) <= distance
        )
        for other in others[near]:
            one, two = sorted((_root(parent, int(number)), _root(parent, int(other))))
            parent[two] = one


def _differ(hashes: np.ndarray, other: Any) -> np.ndarray:
    """In how many bits hashes differ from another one."""
    return np.unpackbits((hashes ^ other).view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)


def _root(parent: list[int], number: int) -> int:
    while parent[number] != number:
        parent[number] = parent[parent[number]]
        number = parent[number]
    return number
