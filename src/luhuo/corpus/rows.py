"""Rows that are made one by one: an endless order of places, a row for each place, and batches of such rows.

A place is (epoch, row). What stands in a row depends on the seed and its place alone, so neither the number of
processes, nor the size of a micro-batch, nor a stop and resume changes any of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

Place = tuple[int, int]
"""Epoch, and row in it."""
Row = dict[str, np.ndarray]
"""Arrays of one row, without the dimension of the batch."""


class Rows(Protocol):
    """A source of rows of equal shapes."""

    def count(self, epoch: int) -> int:
        """Rows of an epoch; at least one."""
        ...

    def row(self, place: Place) -> Row:
        """The row at a place."""
        ...

    def identity(self) -> dict[str, Any]:
        """JSON values that must not change while a run goes on."""
        ...


def require_same(state: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raise `LuhuoError` if a loader's settings are not those of the state it is to go on from."""
    for key, value in settings.items():
        if state.get(key) != value:
            raise LuhuoError(
                tr("The loader cannot continue: its settings have changed.", "加载器无法继续：设置已改变。"),
                expected=f"{key}={state.get(key)}",
                found=f"{key}={value}",
            )


class Walk:
    """Places of one source, one after another, epoch after epoch."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.place = rows, (0, 0)

    def next(self) -> Place:
        """The place to take now."""
        epoch, row = taken = self.place
        self.place = (epoch + 1, 0) if row + 1 == self.rows.count(epoch) else (epoch, row + 1)
        return taken


class RowLoader:
    """Endless batches of the rows of one source, or of a new one with a share of an old one mixed in (replay).

    Of the first n rows of all ranks together, ⌊n · share⌋ are old, evenly spaced. Both sources must give the same
    arrays. Raises `LuhuoError` on `restore` if the rows would differ from then.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        batch: int,
        rank: int = 0,
        world: int = 1,
        old: Rows | None = None,
        share: float = 0.0,
    ) -> None:
        if batch < 1 or not 0 <= rank < world or not 0 <= share < 1 or (old is None and share):
            raise ValueError(f"batch={batch}, rank={rank}, world={world}, share={share}")
        self.batch, self.rank, self.world, self.share = batch, rank, world, share
        self._walks = [Walk(rows)] + ([Walk(old)] if old is not None else [])
        self._taken = 0
        """Rows of all ranks so far."""

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """Batches from the current place on, epoch after epoch."""
        while True:
            yield self._next()

    def first(self, batches: int) -> Iterator[dict[str, np.ndarray]]:
        """At most so many batches of the new source's first epoch, each row once; the last may be shorter."""
        rows = self._walks[0].rows
        count = min(rows.count(0), batches * self.batch)
        for start in range(0, count, self.batch):
            yield _stacked([rows.row((0, row)) for row in range(start, min(count, start + self.batch))])

    def state(self) -> dict[str, Any]:
        """The place of the next batch, as JSON values."""
        places = [list(walk.place) for walk in self._walks]
        return {"places": places, "taken": self._taken, **self._settings()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state()` was taken, with any number of ranks that makes the global batch the same."""
        require_same(state, self._settings())
        self._taken = state["taken"]
        for walk, (epoch, row) in zip(self._walks, state["places"], strict=True):
            walk.place = (epoch, row)

    def _settings(self) -> dict[str, Any]:
        sources = [walk.rows.identity() for walk in self._walks]
        return {"rows": self.batch * self.world, "share": self.share, "sources": sources}

    def _next(self) -> dict[str, np.ndarray]:
        mine: list[Row] = []
        for number in range(self.batch * self.world):
            walk = self._walks[self._is_old(self._taken)]
            place = walk.next()
            self._taken += 1
            if number // self.batch == self.rank:
                mine.append(walk.rows.row(place))
        return _stacked(mine)

    def _is_old(self, number: int) -> bool:
        return int((number + 1) * self.share) > int(number * self.share)


def _stacked(rows: list[Row]) -> dict[str, np.ndarray]:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
