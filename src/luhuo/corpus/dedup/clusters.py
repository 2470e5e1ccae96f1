"""From pairs to clusters: who belongs together, which one is kept, and why the others are not.

A cluster's name is the smallest id in it. Kept is the document of the best source, of these the longest, of these the
one with the smallest id. None of this depends on how documents are numbered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from luhuo.corpus.dedup.ranges import group_starts
from luhuo.corpus.dedup.signatures import Signatures
from luhuo.corpus.dedup.tables import read_columns
from luhuo.corpus.dedup.unionfind import UnionFind

EXACT, NEAR, SEMANTIC = 1, 2, 3
REASONS = ("", "exact", "near", "semantic")
AT_ONCE = 4_000_000
"""Documents of clusters that are ordered together."""

EDGES = "edges-1"
"""The kind of files that hold pairs of documents: columns `left` and `right`."""
Joins = Sequence[tuple[int, Sequence[Path]]]
"""Reasons, and the files with the pairs found for each."""


@dataclass(frozen=True)
class Clusters:
    """For each document, mapped from files: numbers of others."""

    kept: NDArray[np.int64]
    """The one that is kept of its cluster (itself where it is alone or the best)."""
    name: NDArray[np.int64]
    """The one whose id names its cluster."""
    reason: NDArray[np.uint8]
    """Why it is not kept: an index into `REASONS`."""

    @classmethod
    def open(cls, folder: Path, total: int) -> Clusters:
        """The clusters written by `write_clusters`."""
        return cls(
            np.memmap(_path(folder, "kept"), np.int64, "r", shape=(total,)),
            np.memmap(_path(folder, "name"), np.int64, "r", shape=(total,)),
            np.memmap(_path(folder, "reason"), np.uint8, "r", shape=(total,)),
        )


def _path(folder: Path, name: str) -> Path:
    return folder / f".work/clusters/{name}.map"


def write_clusters(folder: Path, signatures: Signatures, joins: Joins) -> dict[str, int]:
    """Join the pairs of each kind in turn and write the clusters. Returns counts."""
    total = signatures.numbering.total
    components = UnionFind(_path(folder, "parent"), total)
    shape = (total,)
    kept = np.memmap(_path(folder, "kept"), np.int64, "w+", shape=shape)
    name = np.memmap(_path(folder, "name"), np.int64, "w+", shape=shape)
    reason = np.memmap(_path(folder, "reason"), np.uint8, "w+", shape=shape)
    for numbers in _chunks(total):
        kept[numbers] = name[numbers] = numbers
    counts = {"exact": 0, "near": 0, "semantic": 0, "clusters": 0, "largest": 0}
    for why, paths in joins:
        for path in paths:
            edges = read_columns(path, EDGES)
            components.join(edges["left"], edges["right"])
        counts |= _settle(signatures, components, Clusters(kept, name, reason), why)
    return counts


def _settle(signatures: Signatures, components: UnionFind, found: Clusters, why: int) -> dict[str, int]:
    """Name the components as they are now; documents that were kept so far and are not any more get the reason.

    The components are taken by their roots, so many at a time as fit into memory.
    """
    total, clusters, largest, dropped = len(found.kept), 0, 0, 0
    below = sum(int((components.roots(numbers) != numbers).sum()) for numbers in _chunks(total))
    parts = max(1, -(-2 * below // AT_ONCE))
    for part in range(parts):
        members = _members(components, total, part, parts)
        if not len(members):
            continue
        root = components.roots(members)
        size = signatures.column("size", members).astype(np.int64)
        ids = signatures.column("id", members)
        priority = signatures.column("priority", members)
        origin = signatures.column("origin", members)
        by_rank = np.lexsort((members, origin, ids[:, 1], ids[:, 0], -size, priority, root))
        found.kept[members[by_rank]] = _first_of_group(root[by_rank], members[by_rank])
        by_id = np.lexsort((members, ids[:, 1], ids[:, 0], root))
        found.name[members[by_id]] = _first_of_group(root[by_id], members[by_id])
        lost = members[(found.kept[members] != members) & (found.reason[members] == 0)]
        found.reason[lost] = why
        sizes = np.diff(np.append(group_starts(root[by_id]), len(members)))
        clusters, largest = clusters + len(sizes), max(largest, int(sizes.max(initial=0)))
        dropped += len(lost)
    return {REASONS[why]: dropped, "clusters": clusters, "largest": largest}


def _chunks(total: int) -> Iterator[NDArray[np.int64]]:
    """All numbers of documents, some at a time."""
    for begin in range(0, total, AT_ONCE):
        yield np.arange(begin, min(begin + AT_ONCE, total))


def _members(components: UnionFind, total: int, part: int, parts: int) -> NDArray[np.int64]:
    """The documents that are not alone and whose root falls into a part, in rising order."""
    found = [np.zeros(0, np.int64)]
    for numbers in _chunks(total):
        roots = components.roots(numbers)
        below = (roots != numbers) & (roots % parts == part)
        found += [numbers[below], np.unique(roots[below])]
    return np.unique(np.concatenate(found))


def _first_of_group(groups: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each value the first value of its group; groups are neighbours."""
    starts = group_starts(groups)
    return np.repeat(values[starts], np.diff(np.append(starts, len(values))))
