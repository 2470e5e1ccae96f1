"""Sequences that a loss compares, as tokens: a pair, a judged answer, or several ranked answers are one unit.

A unit's sequences always lie in one row, so that no split of a batch parts them. A batch holds a fixed number of
units, however many rows they take: packing, processes and micro-batches change nothing in what a step learns from.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.dialogue.packing import TokenStore, pack
from luhuo.dialogue.render import Rendered

WHOLE = 64
"""Rows are as long as the longest unit, rounded up to a multiple of this."""
USUAL = 512
"""Tokens of a row, where no unit is longer."""


class Units:
    """Units behind one another, with numbers for each sequence (a label, a score, a reference log-probability)."""

    def __init__(self) -> None:
        self.store = TokenStore()
        self.planes: dict[str, TokenStore] = {}
        """Further sequences by the prefix of their entries in a batch, one for each of `store`: they lie in rows of
        their own at the same places, and the loss does not see them."""
        self.numbers: dict[str, np.ndarray] = {}
        """By name: (sequences,) fp32, for all sequences, once they are known."""
        self._ends = array("Q", [0])

    def add(self, sequences: Sequence[Rendered]) -> None:
        """Append one unit."""
        for sequence in sequences:
            self.store.add(sequence)
        self._ends.append(len(self.store))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def sequences(self, unit: int) -> range:
        """The numbers of a unit's sequences."""
        return range(self._ends[unit], self._ends[unit + 1])

    def lengths(self) -> np.ndarray:
        """Tokens of each unit in the plane in which it is longest."""
        each = [np.concatenate(([0], np.cumsum(store.lengths()))) for store in (self.store, *self.planes.values())]
        ends = np.array(self._ends, dtype=np.int64)
        return np.max([np.diff(one[ends]) for one in each], axis=0)

    def row_length(self) -> int:
        """Tokens of a row that takes any unit and is no waste."""
        longest = int(self.lengths().max()) - 1 if len(self) else 0
        return max(USUAL, -(-longest // WHOLE) * WHOLE)


class UnitLoader:
    """Endless batches of `batch` units: `ids`, `segments`, `mask` (rows, length + 1), and the `numbers` of the units
    and `unit` (its number in the row, from 1; 0: nothing), each (rows, sequences).

    The sequences of a row are its segments 1, 2, … in order, column k of the numbers is segment k + 1. Units come in
    an order of (seed, epoch). All processes see the same units and take their share of each batch; all have the same
    number of rows, since with sharded weights they must pass through the model equally often.
    """

    def __init__(
        self, units: Units, *, batch: int, length: int, seed: int, pad_id: int, rank: int = 0, world: int = 1
    ) -> None:
        if not len(units):
            raise LuhuoError(tr("There is nothing to train on.", "没有可用于训练的数据。"))
        self._units, self._lengths = units, units.lengths()
        if int(self._lengths.max()) > length + 1:
            raise LuhuoError(
                tr("What belongs together does not fit into a row.", "须放在一起的序列超出一行。"),
                expected=f"length >= {int(self._lengths.max()) - 1}",
                found=length,
                where="length",
            )
        self._batch, self._width, self._seed, self._pad_id = batch, length + 1, seed, pad_id
        self._rank, self._world = rank, world
        self._epoch, self._place = 0, 0
        self._order: tuple[int, np.ndarray] | None = None

    def steps(self, epochs: float) -> int:
        """Batches that see the data `epochs` times."""
        return max(1, round(len(self._units) * epochs / self._batch))

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        while True:
            yield self.assemble([self._next() for _ in range(self._batch)])

    def assemble(self, units: Sequence[int]) -> dict[str, np.ndarray]:
        """This process's share of a batch of these units."""
        shares = [list(share) for share in np.array_split(np.array(units, dtype=np.int64), self._world)]
        packed = [pack(self._lengths[share].tolist(), self._width) for share in shares]
        mine = [[int(shares[self._rank][i]) for i in row] for row in packed[self._rank]]
        return self._filled(mine, max(1, *(len(rows) for rows in packed)))

    def state(self) -> dict[str, Any]:
        """The place of the next batch."""
        return {"epoch": self._epoch, "unit": self._place}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a place given by `state`."""
        self._epoch, self._place = int(state["epoch"]), int(state["unit"])

    def _next(self) -> int:
        if self._place == len(self._units):
            self._epoch, self._place = self._epoch + 1, 0
        if self._order is None or self._order[0] != self._epoch:
            chance = np.random.default_rng(derive_seed(self._seed, "units", self._epoch))
            self._order = (self._epoch, chance.permutation(len(self._units)))
        self._place += 1
        return int(self._order[1][self._place - 1])

    def _filled(self, rows: list[list[int]], count: int) -> dict[str, np.ndarray]:
        sequences = [[number for unit in row for number in self._units.sequences(unit)] for row in rows]
        sequences += [[] for _ in range(count - len(rows))]
        batch: dict[str, np.ndarray] = {}
        width = self._width
        if count == 1 and rows:  # a small batch: padding would be most of its only row
            longest = sum(int(self._lengths[unit]) for unit in rows[0]) - 1
            width = min(width, -(-longest // WHOLE) * WHOLE + 1)
        for prefix, store in {"": self._units.store, **self._units.planes}.items():
            batch |= {prefix + name: value for name, value in self._plane(store, sequences, width).items()}
        columns = max(1, *(len(row) for row in sequences))
        batch["unit"] = np.zeros((count, columns), dtype=np.int32)
        for i, row in enumerate(rows):
            numbers = [place for place, unit in enumerate(row, 1) for _ in self._units.sequences(unit)]
            batch["unit"][i, : len(numbers)] = numbers
        for name, values in self._units.numbers.items():
            batch[name] = np.zeros((count, columns), dtype=np.float32)
            for i, row in enumerate(sequences):
                batch[name][i, : len(row)] = values[row]
        return batch

    def _plane(self, store: TokenStore, rows: list[list[int]], width: int) -> Mapping[str, np.ndarray]:
        shape = (len(rows), width)
        ids = np.full(shape, self._pad_id, dtype=np.int64)
        segments, mask = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.int32)
        for i, row in enumerate(rows):
            at = 0
            for segment, number in enumerate(row, 1):
                tokens, targets = store.get(number)[:2]
                span = slice(at, at + len(tokens))
                ids[i, span], mask[i, span], segments[i, span] = tokens, targets, segment
                at += len(tokens)
        return {"ids": ids, "segments": segments, "mask": mask}
