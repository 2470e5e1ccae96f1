"""Rows made of whole fragments of documents, each of which can be framed and changed by itself.

The packed loader cuts its stream every so many tokens. Objectives that frame a text ([CLS] … [SEP]), rearrange it or
take parts out of it need another cut: here a row is filled with fragments as long as there is room, where the room a
fragment takes is told by the objective (`Noise.costs`), and a document that does not fit is cut at the end of the row
and goes on in the next. No token of a document is lost, none is read twice in an epoch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.corpus.loader import document_table
from luhuo.corpus.rows import Place, Row
from luhuo.corpus.shards import open_shards, read_header

SHORTEST = 16
"""A document is not cut for the sake of fewer tokens than this at the end of a row."""


@dataclass(frozen=True)
class Fragment:
    """A run of tokens of one document, without the token that ends it."""

    ids: np.ndarray
    """(n,) int64."""
    ends: bool
    """Whether the document ends here."""


class Noise(Protocol):
    """How an objective makes a row of fragments."""

    widths: tuple[int, ...]
    """Room of a row: of what is read, and where there is such, of what is written."""

    def costs(self, most: int) -> list[list[int]]:
        """For each width the room that a fragment of n = 0 … `most` tokens may take; it does not fall with n."""
        ...

    def row(self, fragments: Sequence[Fragment], random: np.random.Generator) -> Row:
        """The arrays of a row. Everything random in them comes from `random`."""
        ...


class FragmentRows:
    """The rows of one split of the shards, under a `noise`; a source for `RowLoader`.

    Raises `LuhuoError` if the shards are damaged or hold no text.
    """

    def __init__(self, folder: str | Path, noise: Noise, *, seed: int, verify: bool = True) -> None:
        self.noise, self.seed = noise, seed
        self.header = read_header(folder)
        shards = open_shards(folder, verify=verify)
        self._tokens = [tokens for tokens, _ in shards]
        self._shard, self._start, size = document_table([ends for _, ends in shards])
        self._size = size - self._closed(size)
        if not (self._size > 0).any():
            raise LuhuoError(
                tr("These shards hold no text to train on.", "这些分片里没有可训练的文本。"), where=folder
            )
        most = max(noise.widths) * 4
        costs = noise.costs(most)
        while all(cost[-1] <= width for cost, width in zip(costs, noise.widths, strict=True)):
            most *= 2
            costs = noise.costs(most)
        self._costs = costs
        if any(cost[min(len(cost) - 1, 2)] > width for cost, width in zip(costs, noise.widths, strict=True)):
            raise LuhuoError(
                tr("A row is too short for this objective.", "每行长度太短，不适合该目标。"),
                found=f"length={max(noise.widths)}",
                fix=tr("Raise length.", "请增大 length。"),
            )
        self._documents = np.flatnonzero(self._size > 0)
        self._plans: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    @property
    def longest(self) -> int:
        """Tokens of the longest fragment that can stand in a row."""
        return min(bisect_right(cost, width) - 1 for cost, width in zip(self._costs, self.noise.widths, strict=True))

    def identity(self) -> dict[str, Any]:
        """What must stay as it is for the rows to be the same."""
        return {"tokens": self.header["tokens"], "seed": self.seed, "widths": list(self.noise.widths)}

    def count(self, epoch: int) -> int:
        """Rows of an epoch."""
        return len(self._plan(epoch)[1])

    def row(self, place: Place) -> Row:
        """The row at a place."""
        return self.noise.row(self.fragments(place), self._random("noise", *place))

    def fragments(self, place: Place) -> list[Fragment]:
        """What stands in the row at a place, before it is changed."""
        epoch, row = place
        order, at, offset = self._plan(epoch)
        found = []
        for number, begin, count in self._fill(order, int(at[row]), int(offset[row])):
            document = int(order[number])
            start = int(self._start[document]) + begin
            ids = self._tokens[self._shard[document]][start : start + count].astype(np.int64)
            found.append(Fragment(ids, begin + count == self._size[document]))
        return found

    def elsewhere(self, random: np.random.Generator, most: int) -> np.ndarray:
        """At most so many tokens of a random document, from a random place on: (n,), at least one."""
        document = int(self._documents[random.integers(len(self._documents))])
        begin = int(random.integers(self._size[document]))
        count = min(most, int(self._size[document]) - begin)
        start = int(self._start[document]) + begin
        return self._tokens[self._shard[document]][start : start + count].astype(np.int64)

    def _closed(self, size: np.ndarray) -> np.ndarray:
        """1 for each document whose last token is the one that ends texts."""
        eos = self.header.get("eos_id")
        last = self._start + np.maximum(size, 1) - 1
        closed = np.zeros_like(size)
        for shard, tokens in enumerate(self._tokens):
            mine = (self._shard == shard) & (size > 0)
            closed[mine] = np.asarray(tokens[last[mine]]) == eos
        return closed

    def _random(self, *names: object) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(derive_seed(self.seed, *names)))

    def _plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The order of the documents in an epoch, and for each row where it begins: place in the order, and token.

        Two epochs are kept: near a border both are asked for.
        """
        if epoch not in self._plans:
            order = self._documents[self._random("epoch", epoch).permutation(len(self._documents))]
            starts, at, offset = [], 0, 0
            while at < len(order):
                starts.append((at, offset))
                for number, begin, count in self._fill(order, at, offset):
                    at, offset = number, begin + count
                if offset == self._size[order[at]]:
                    at, offset = at + 1, 0
            table = np.array(starts, np.int64)
            self._plans = {kept: plan for kept, plan in self._plans.items() if kept == epoch - 1}
            self._plans[epoch] = order, table[:, 0], table[:, 1]
        return self._plans[epoch]

    def _fill(self, order: np.ndarray, at: int, offset: int) -> Iterator[tuple[int, int, int]]:
        """(place in the order, first token, tokens) of the fragments of the row that begins here."""
        room = list(self.noise.widths)
        first = True
        while at < len(order):
            left = int(self._size[order[at]]) - offset
            fits = min(bisect_right(cost, space) - 1 for cost, space in zip(self._costs, room, strict=True))
            count = min(left, fits)
            if count < 1 or (count < left and count < SHORTEST and not first):
                return
            yield at, offset, count
            if count < left:
                return
            room = [space - cost[count] for space, cost in zip(room, self._costs, strict=True)]
            at, offset, first = at + 1, 0, False
