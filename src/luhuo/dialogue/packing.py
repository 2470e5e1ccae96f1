"""Packing: several conversations in one row, each its own segment, so that none can see another.

Rows are laid out anew every epoch from (seed, epoch): conversations in a shuffled order, each into the fullest row
that still has room (online best fit). The place in this stream is two numbers, so a resumed run continues exactly.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.dialogue.mixing import Share, chosen
from luhuo.dialogue.render import Rendered


class TokenStore:
    """Rendered conversations behind one another: five bytes a token in memory, nine if any target has a weight."""

    def __init__(self, rendered: Iterable[Rendered] = ()) -> None:
        self._ids, self._mask, self._ends = array("I"), bytearray(), array("Q", [0])
        self._weights: array[float] | None = None
        for one in rendered:
            self.add(one)

    def add(self, rendered: Rendered) -> None:
        """Append one."""
        if rendered.weights and self._weights is None:
            self._weights = array("f", map(float, self._mask))  # bytes themselves would be taken for floats
        self._ids.extend(rendered.ids)
        self._mask.extend(rendered.mask)
        self._ends.append(len(self._mask))
        if self._weights is not None:
            self._weights.extend(rendered.weights or map(float, rendered.mask))

    @property
    def weighted(self) -> bool:
        """Whether any target counts otherwise than 1."""
        return self._weights is not None

    def __len__(self) -> int:
        return len(self._ends) - 1

    def lengths(self) -> np.ndarray:
        """Tokens of each conversation."""
        return np.diff(np.array(self._ends, dtype=np.int64))

    def get(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and mask of one conversation, without copying."""
        start, end = self._ends[number], self._ends[number + 1]
        ids = np.frombuffer(self._ids, dtype=np.uint32, count=end - start, offset=4 * start)
        return ids, np.frombuffer(self._mask, dtype=np.uint8, count=end - start, offset=start)

    def weights(self, number: int) -> np.ndarray:
        """What each token of one conversation counts in the loss, without copying; only if the store is `weighted`."""
        assert self._weights is not None
        start, end = self._ends[number], self._ends[number + 1]
        return np.frombuffer(self._weights, dtype=np.float32, count=end - start, offset=4 * start)


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of item numbers, each row at most `capacity` long: items in the given order, each by best fit.

    Raises `LuhuoError` for an item longer than a row: cutting or dropping it is decided before packing.
    """
    rows: list[list[int]] = []
    spaces: list[tuple[int, int]] = []  # (space left, row), ascending
    for item, length in enumerate(lengths):
        if length > capacity:
            raise LuhuoError(
                tr("A conversation is longer than a row.", "有对话比一行还长。"),
                expected=f"<= {capacity}",
                found=length,
            )
        at = bisect_left(spaces, (length, -1))
        space, row = spaces.pop(at) if at < len(spaces) else (capacity, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(item)
        if space > length:
            insort(spaces, (space - length, row))
    return rows


class ConversationLoader:
    """Endless batches {"ids", "segments", "mask"}, each (batch, length + 1), from packed conversations.

    The interface of the corpus's packed loader: `state`, `restore`, `rank` of `world`. Segment 0 is padding. Where a
    target has a weight, there are also `weights`; with `row_seeds`, `noise` (batch,): a seed of each row's own.
    `shares` say how often the conversations are seen that were added one set behind the other (all once).
    """

    def __init__(
        self,
        store: TokenStore,
        *,
        batch: int,
        length: int,
        seed: int,
        pad_id: int,
        rank: int = 0,
        world: int = 1,
        shares: Sequence[Share] = (),
        row_seeds: bool = False,
    ) -> None:
        if not len(store):
            raise LuhuoError(tr("There is no conversation to train on.", "没有可用于训练的对话。"))
        self._shares, self._row_seeds = tuple(shares) or (Share(len(store)),), row_seeds
        self._store, self._lengths = store, store.lengths()
        self._batch, self._width, self._seed, self._pad_id = batch, length + 1, seed, pad_id
        self._rank, self._world = rank, world
        self._epoch, self._row = 0, 0
        self._plan: tuple[int, list[list[int]]] | None = None

    def rows(self, epoch: int) -> list[list[int]]:
        """The rows of an epoch, each a list of conversation numbers."""
        if self._plan is None or self._plan[0] != epoch:
            chance = np.random.default_rng(derive_seed(self._seed, "packing", epoch))
            order = chance.permutation(chosen(self._shares, self._seed, epoch))
            packed = pack(self._lengths[order].tolist(), self._width)
            rows = [[int(order[i]) for i in packed[row]] for row in chance.permutation(len(packed))]
            self._plan = (epoch, rows)
        return self._plan[1]

    def steps(self, epochs: float) -> int:
        """Batches of all ranks together that see the data `epochs` times; the last one may reach a little further."""
        whole = sum(len(self.rows(epoch)) for epoch in range(int(epochs)))
        part = (epochs - int(epochs)) * len(self.rows(int(epochs))) if epochs > int(epochs) else 0
        return max(1, int(np.ceil((whole + part) / (self._batch * self._world))))

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        while True:
            rows = [self._next_row() for _ in range(self._batch * self._world)]
            mine = rows[self._rank * self._batch : (self._rank + 1) * self._batch]
            batch = self._assemble([row for row, _ in mine])
            if self._row_seeds:
                batch["noise"] = np.array([seed for _, seed in mine], dtype=np.int64)
            yield batch

    def state(self) -> dict[str, Any]:
        """The place of the next batch."""
        return {"epoch": self._epoch, "row": self._row}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a place given by `state`."""
        self._epoch, self._row = int(state["epoch"]), int(state["row"])

    def _next_row(self) -> tuple[list[int], int]:
        """The conversations of a row, and its seed."""
        if self._row >= len(self.rows(self._epoch)):
            self._epoch, self._row = self._epoch + 1, 0
        self._row += 1
        seed = derive_seed(self._seed, "noise", self._epoch, self._row) if self._row_seeds else 0
        return self.rows(self._epoch)[self._row - 1], seed

    def _assemble(self, rows: list[list[int]]) -> dict[str, np.ndarray]:
        shape = (len(rows), self._width)
        batch = {
            "ids": np.full(shape, self._pad_id, dtype=np.int64),
            "segments": np.zeros(shape, dtype=np.int32),
            "mask": np.zeros(shape, dtype=np.int32),
        }
        if self._store.weighted:
            batch["weights"] = np.zeros(shape, dtype=np.float32)
        for i, row in enumerate(rows):
            at = 0
            for segment, number in enumerate(row, 1):
                ids, mask = self._store.get(number)
                span = slice(at, at + len(ids))
                batch["ids"][i, span], batch["mask"][i, span], batch["segments"][i, span] = ids, mask, segment
                if self._store.weighted:
                    batch["weights"][i, span] = self._store.weights(number)
                at += len(ids)
        return batch
