"""Samples of bounded size that depend on what there is, not on its order: those with the smallest hashes."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import Counter
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def place(name: str) -> int:
    """A number below 2**64 that depends on the name only."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


class Smallest(Generic[T]):
    """The `count` entries with the smallest keys, kept in at most twice the space. Of entries with one key the last
    counts: give those that differ different keys."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._held: dict[Any, T] = {}
        self._limit: Any = None

    def wants(self, key: Any) -> bool:
        """Whether an entry with this key could be among them: ask before making it."""
        return self._limit is None or key <= self._limit

    def add(self, key: Any, value: T) -> None:
        """Offer an entry."""
        if self.wants(key):
            self._held[key] = value
            if len(self._held) >= 2 * self.count:
                self._cut()

    def _cut(self) -> None:
        keys = sorted(self._held)[: self.count]
        self._held = {key: self._held[key] for key in keys}
        if len(keys) == self.count:
            self._limit = keys[-1]

    def values(self) -> list[T]:
        """What was kept, smallest key first."""
        self._cut()
        return list(self._held.values())


class ClusterSizes:
    """How many duplicates each cluster lost. Beyond `most` of them, of every second cluster, of every fourth, …:
    the sizes of those that stay are exact."""

    def __init__(self, most: int = 2_000_000) -> None:
        self.most, self.share = most, 1
        self._lost = array("Q")

    def add(self, cluster: str) -> None:
        """Count a document that was dropped for another of its cluster (named by 16 or more hexadecimal digits)."""
        number = int(cluster[:16], 16)
        if number % self.share == 0:
            self._lost.append(number)
            while len(self._lost) > self.most:
                self.share *= 2
                self._lost = array("Q", (one for one in self._lost if one % self.share == 0))

    def sizes(self) -> Counter[int]:
        """{cluster: documents in it, the one that is kept included}."""
        return Counter({number: lost + 1 for number, lost in Counter(self._lost).items()})

    def largest(self, count: int) -> list[tuple[int, int]]:
        """(cluster, size) of the largest."""
        return sorted(self.sizes().items(), key=lambda pair: (-pair[1], pair[0]))[:count]


def named(cluster: str) -> int:
    """The number under which `ClusterSizes` knows a cluster."""
    return int(cluster[:16], 16)


def doubling(value: int) -> int:
    """The bin of a length: half steps of a doubling, so that lengths of any size fall into few bins."""
    return 0 if value < 1 else 1 + round(2 * math.log2(value))


def doubling_edges(bins: int) -> Iterator[float]:
    """Where each of the bins begins."""
    for number in range(bins + 1):
        yield 0.0 if number < 1 else 2 ** ((number - 1.5) / 2)
