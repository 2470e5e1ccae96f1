"""Batches out of shards: packed, shuffled by seed, divided among ranks, and restorable at any batch.

An epoch is one permutation of the documents, laid end to end as one stream. Row r holds the tokens from r·length to
(r+1)·length inclusive: every token but the first is a target exactly once. The ranks share the rows of a global
batch: the global order is the same for any number of ranks. A place in all this is two numbers, epoch and batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.corpus.rows import require_same
from luhuo.corpus.shards import document_groups, open_shards, read_header


class PackedLoader:
    """Endless batches {"ids": (batch, length+1) int64, "segments": (batch, length+1) int32} of one split.

    Equal segment numbers in a row are one document; 0 is padding, which only the last rows of an epoch have.
    With `groups`, and if the shards know them, there is also "groups" (batch, length+1) int32: 1 + the place of the
    token's document in the header's `groups`, 0 for padding.
    `only` are the numbers of the documents to take; None: all.
    Raises `LuhuoError` if the shards are damaged or hold nothing to predict.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        batch: int,
        length: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        verify: bool = True,
        groups: bool = False,
        only: np.ndarray | None = None,
    ) -> None:
        if batch < 1 or length < 1 or not 0 <= rank < world:
            raise ValueError(f"batch={batch}, length={length}, rank={rank}, world={world}")
        self.batch, self.length, self.seed, self.rank, self.world = batch, length, seed, rank, world
        self.header = read_header(folder)
        shards = open_shards(folder, verify=verify)
        self._tokens = [tokens for tokens, _ in shards]
        self._shard, self._start, self._size = document_table([ends for _, ends in shards])
        self._group = document_groups(folder) if groups else None
        self._documents = np.arange(len(self._size)) if only is None else only
        self.tokens = int(self._size[self._documents].sum())
        if self.tokens < 2:
            raise LuhuoError(
                tr("These shards hold no text to train on.", "这些分片里没有可训练的文本。"), where=folder
            )
        self._epoch = self._batch = 0
        self._order_of = -1

    @property
    def rows_per_epoch(self) -> int:
        """Rows that hold at least one target."""
        return -(-(self.tokens - 1) // self.length)

    @property
    def batches_per_epoch(self) -> int:
        """Batches of this rank (and of every other) in an epoch; the last is filled up with padding."""
        return -(-self.rows_per_epoch // (self.batch * self.world))

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """Batches from the current place on, epoch after epoch."""
        while True:
            yield self._next()

    def epoch(self) -> Iterator[dict[str, np.ndarray]]:
        """The rest of the current epoch."""
        current = self._epoch
        while self._epoch == current:
            yield self._next()

    def state(self) -> dict[str, int]:
        """The place of the next batch, as JSON values."""
        return {
            "epoch": self._epoch,
            "batch": self._batch,
            "rows": self.batch * self.world,
            "length": self.length,
            "seed": self.seed,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state()` was taken. Raises `LuhuoError` if the batches would differ from then."""
        require_same(state, {"rows": self.batch * self.world, "length": self.length, "seed": self.seed})
        self._epoch, self._batch = state["epoch"], state["batch"]

    def _next(self) -> dict[str, np.ndarray]:
        if self._order_of != self._epoch:
            self._lay_out(self._epoch)
        ids = np.zeros((self.batch, self.length + 1), np.int64)
        segments = np.zeros((self.batch, self.length + 1), np.int32)
        first = (self._batch * self.world + self.rank) * self.batch
        groups = None if self._group is None else np.zeros_like(segments)
        for i in range(self.batch):
            if first + i < self.rows_per_epoch:
                self._fill(first + i, ids[i], segments[i], None if groups is None else groups[i])
        self._batch += 1
        if self._batch == self.batches_per_epoch:
            self._epoch, self._batch = self._epoch + 1, 0
        return {"ids": ids, "segments": segments} | ({} if groups is None else {"groups": groups})

    def identity(self) -> dict[str, Any]:
        """What must stay as it is for the rows to be the same."""
        return {"tokens": self.tokens, "seed": self.seed, "widths": [self.length]}

    def count(self, epoch: int) -> int:
        """Rows of an epoch: together with `row`, what makes this a source for `rows.RowLoader`."""
        return self.rows_per_epoch

    def row(self, place: tuple[int, int]) -> dict[str, np.ndarray]:
        """The row at (epoch, row), without padding but behind the last token of an epoch."""
        epoch, row = place
        if self._order_of != epoch:
            self._lay_out(epoch)
        ids, segments = np.zeros(self.length + 1, np.int64), np.zeros(self.length + 1, np.int32)
        self._fill(row, ids, segments)
        return {"ids": ids, "segments": segments}

    def _lay_out(self, epoch: int) -> None:
        """The order of the documents in this epoch, and where each ends in the stream."""
        generator = np.random.Generator(np.random.PCG64(derive_seed(self.seed, "epoch", epoch)))
        self._order = self._documents[generator.permutation(len(self._documents))]
        self._ends = np.cumsum(self._size[self._order])
        self._order_of = epoch

    def _fill(self, row: int, ids: np.ndarray, segments: np.ndarray, groups: np.ndarray | None = None) -> None:
        """Copy the tokens of one row, document by document."""
        at = row * self.length
        stop = min(at + self.length + 1, int(self._ends[-1]))
        place = int(np.searchsorted(self._ends, at, side="right"))
        done = segment = 0
        while at < stop:
            document, end = self._order[place], int(self._ends[place])
            count = min(end, stop) - at
            begin = int(self._start[document] + self._size[document]) - (end - at)
            ids[done : done + count] = self._tokens[self._shard[document]][begin : begin + count]
            segment += 1
            segments[done : done + count] = segment
            if groups is not None and self._group is not None:
                groups[done : done + count] = 1 + self._group[document]
            done, at, place = done + count, at + count, place + 1


def document_table(ends: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shard, first token and length of every document."""
    if not ends:
        empty = np.zeros(0, np.int64)
        return empty, empty, empty
    stops = [np.asarray(e, np.int64) for e in ends]
    starts = [np.concatenate([[0], e[:-1]]) for e in stops]
    shard = np.repeat(np.arange(len(stops)), [len(e) for e in stops])
    start = np.concatenate(starts)
    return shard, start, np.concatenate(stops) - start
