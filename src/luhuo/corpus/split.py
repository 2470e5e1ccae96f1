"""Train, validation and test by the hash of a document: the same text is always on the same side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luhuo.core.seeds import derive_seed

UNIT = float(2**63)
SMALLEST = 3
"""A source with fewer documents is not forced to have a test document."""


def place(digest: str, seed: int) -> float:
    """A number in [0, 1) that depends on the document and the seed only."""
    return derive_seed(seed, "split", digest) / UNIT


class Splitter:
    """Decides the side of each document of one source, after `see` has been called with all of them.

    A document whose place is below `test` is test, below `test + valid` validation. In a source so small that one of
    these would stay empty, the document with the next smallest place takes it.
    """

    def __init__(self, valid: float, test: float, seed: int) -> None:
        self.valid, self.test, self.seed = valid, test, seed
        self._seen = 0
        self._counts = {"train": 0, "valid": 0, "test": 0}
        self._lowest: list[tuple[float, str]] = []  # the two smallest places that are not test

    def see(self, digest: str) -> None:
        """Count a document."""
        at = place(digest, self.seed)
        side = self._by_place(at)
        self._seen += 1
        self._counts[side] += 1
        if side != "test":
            self._lowest = sorted([*self._lowest, (at, digest)])[:2]

    def state(self) -> dict[str, Any]:
        """What it has seen, as JSON values."""
        return {
            "valid": self.valid,
            "test": self.test,
            "seed": self.seed,
            "seen": self._seen,
            "counts": self._counts,
            "lowest": [list(pair) for pair in self._lowest],
        }

    @classmethod
    def of(cls, *states: Mapping[str, Any]) -> Splitter:
        """The one that has seen what the splitters of these states have seen together."""
        found = cls(states[0]["valid"], states[0]["test"], states[0]["seed"])
        found._seen = sum(state["seen"] for state in states)
        found._counts = {side: sum(state["counts"][side] for state in states) for side in found._counts}
        found._lowest = sorted((at, digest) for state in states for at, digest in state["lowest"])[:2]
        return found

    def side(self, digest: str) -> str:
        """ "train", "valid" or "test"."""
        return self._forced().get(digest) or self._by_place(place(digest, self.seed))

    def _forced(self) -> dict[str, str]:
        forced: dict[str, str] = {}
        spare, valid = list(self._lowest), self._counts["valid"]
        if self._seen < SMALLEST:
            return forced
        if self.test > 0 and not self._counts["test"]:
            at, digest = spare.pop(0)
            forced[digest] = "test"
            valid -= self._by_place(at) == "valid"
        if self.valid > 0 and not valid and spare:
            forced[spare[0][1]] = "valid"
        return forced

    def _by_place(self, at: float) -> str:
        return "test" if at < self.test else "valid" if at < self.test + self.valid else "train"
