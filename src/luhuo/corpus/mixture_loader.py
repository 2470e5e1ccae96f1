"""Batches out of shards that follow a mixture to the row.

A run of a known number of rows is planned beforehand: each phase gives every group a whole number of rows, nearest to
its share, and spaces them evenly. So where a run stands is one number, for any number of ranks. A row holds text of
one group; a group that is asked for more than it has begins again, in a new order.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.corpus.loader import PackedLoader
from luhuo.corpus.mixture import Group, Mixture, Phase, schedule, shares
from luhuo.corpus.rows import require_same
from luhuo.corpus.shards import document_groups, document_sizes, read_header


class MixtureLoader:
    """Endless batches {"ids": (batch, length+1) int64, "segments": (batch, length+1) int32} of a mixture.

    `rows`: of all ranks in the whole run; what comes after them goes on as the last phase. Raises `LuhuoError` if the
    shards are damaged or a weight names nothing.
    """

    def __init__(
        self,
        folder: str | Path,
        mixture: Mixture,
        *,
        rows: int,
        batch: int,
        length: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.mixture, self.rows = mixture, rows
        self.batch, self.length, self.seed, self.rank, self.world = batch, length, seed, rank, world
        groups = document_groups(folder)
        if groups is None:
            raise LuhuoError(
                tr("These shards do not know the sources of their documents.", "这些分片没有记录文档来源。"),
                where=folder,
                fix=tr("Make them anew with this version.", "请用当前版本重新制作。"),
            )
        names: list[Group] = [(row["source"], row["lang"]) for row in read_header(folder)["groups"]]
        sizes = np.bincount(groups, document_sizes(folder), len(names)).astype(np.int64)
        self.groups = {name: int(size) for name, size in zip(names, sizes, strict=True)}
        self._plan = [
            (shares(phase, self.groups, mixture.temperature), last - first) for phase, first, last in self._phases()
        ]
        used = {group for weights, _ in self._plan for group in weights}
        self._order = [group for group in names if group in used]
        self._sources = [
            PackedLoader(
                folder,
                batch=1,
                length=length,
                seed=derive_seed(seed, "mixture", *group),
                only=np.flatnonzero(groups == names.index(group)),
                verify=number == 0,
            )
            for number, group in enumerate(self._order)
        ]
        parts = [schedule([weights.get(group, 0.0) for group in self._order], count) for weights, count in self._plan]
        self._schedule = np.concatenate(parts)
        self._last = parts[-1]
        self._taken = 0
        self._counts = np.zeros(len(self._order), np.int64)

    def _phases(self) -> Iterator[tuple[Phase, int, int]]:
        first = 0
        for phase in self.mixture.phases:
            last = round(phase.until * self.rows)
            yield phase, first, last
            first = last

    def planned(self) -> dict[str, int]:
        """Rows of each group ("source/lang") in the whole run."""
        counts = np.bincount(self._schedule, minlength=len(self._order))
        return {"/".join(group): int(count) for group, count in zip(self._order, counts, strict=True)}

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """Batches from the current place on."""
        while True:
            yield self._next()

    def state(self) -> dict[str, Any]:
        """The place of the next batch, as JSON values."""
        return {"taken": self._taken, **self._settings()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state()` was taken, with any number of ranks that makes the global batch the same."""
        require_same(state, self._settings())
        self._taken = state["taken"]
        seen = np.array([self._group(number) for number in range(self.rows, self._taken)], np.int64)
        before = np.concatenate([self._schedule[: self._taken].astype(np.int64), seen])
        self._counts = np.bincount(before, minlength=len(self._order))

    def _settings(self) -> dict[str, Any]:
        settings = {"rows": self.batch * self.world, "length": self.length, "seed": self.seed, "planned": self.rows}
        return settings | {"mixture": self.mixture.model_dump(mode="json")}

    def _group(self, number: int) -> int:
        """The group of a row of the run, counted over all ranks."""
        if number < self.rows:
            return int(self._schedule[number])
        return int(self._last[(number - self.rows) % len(self._last)])

    def _next(self) -> dict[str, np.ndarray]:
        mine = []
        for number in range(self.batch * self.world):
            group = self._group(self._taken)
            row = int(self._counts[group])
            self._counts[group] += 1
            self._taken += 1
            if number // self.batch == self.rank:
                source = self._sources[group]
                mine.append(source.row(divmod(row, source.rows_per_epoch)))
        return {name: np.stack([row[name] for row in mine]) for name in mine[0]}
