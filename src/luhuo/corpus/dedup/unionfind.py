"""Connected components of documents, out of core: one number a document, in a mapped file.

The root of a component is its smallest number, whatever the order of the edges. Many edges are joined at once: each
root that meets a smaller one is hung below it, until no edge connects two roots (a vectorised form of Rem's and
Shiloach and Vishkin's algorithms).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CHUNK = 4_000_000


class UnionFind:
    """Components of the numbers 0 … count - 1. The file is made anew."""

    def __init__(self, path: Path, count: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.parent = np.memmap(path, np.int64, "w+", shape=(max(count, 1),))
        for begin in range(0, count, CHUNK):
            end = min(begin + CHUNK, count)
            self.parent[begin:end] = np.arange(begin, end)

    def roots(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The smallest number of each one's component; paths are shortened on the way."""
        root = self.parent[numbers]
        while True:
            above = self.parent[root]
            if np.array_equal(above, root):
                break
            root = above
        self.parent[numbers] = root
        return root

    def join(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> None:
        """Add edges."""
        while len(left):
            left, right = self.roots(left), self.roots(right)
            apart = left != right
            left, right = left[apart], right[apart]
            low, high = np.minimum(left, right), np.maximum(left, right)
            np.minimum.at(self.parent, high, low)
