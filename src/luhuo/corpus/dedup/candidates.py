"""Candidate pairs: documents with an equal band, whose signatures agree in enough places.

A group of documents with an equal band is compared all with all while it is small. A large group (a text copied a
thousand times, a form filled in a thousand times) is put in the order of its signatures, read from a place that the
band decides, and each document is compared with the next few, so that the work grows with the documents, not with
their square. Near copies stand close to each other in that order (as in LSH forests, Bawa et al. 2005), the closer the
more they agree, and every band is another order.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luhuo.corpus.dedup import simhash
from luhuo.corpus.dedup.ranges import group_starts, groups_by_size
from luhuo.corpus.dedup.records import Numbering
from luhuo.corpus.dedup.signatures import Signatures
from luhuo.corpus.dedup.stages import DeduplicateStage, Near
from luhuo.corpus.dedup.tables import write_columns
from luhuo.corpus.factory.executors import Outcome, Unit
from luhuo.corpus.factory.watch import Watch

TARGET = "luhuo.corpus.dedup.candidates:pair_range"
ALGORITHM = "candidates-1"
RANGE_KEYS = 4_000_000
"""Band keys sorted together."""
ALL_PAIRS = 64
"""Largest group that is compared all with all."""
NEIGHBOURS = 8
"""Documents that each document of a large group is compared with."""
ORDERED_BY = 16
"""Places of the signatures that a large group is ordered by."""
PAIRS_AT_ONCE = 1_000_000
AT_ONCE = 65_536
"""Signatures looked at together."""
MARGIN = 0.11
"""How far below the threshold an estimate may be: three standard deviations in 188 places."""

Pairs = NDArray[np.int64]


def candidates_path(unit: str) -> str:
    """Where the candidates of a range of keys lie, below the folder of the artifact."""
    return f".work/candidates/{unit}.columns"


def repeats_map(folder: Path, total: int) -> NDArray[np.uint8]:
    """One byte a document: 1 where it equals one with a smaller number."""
    return np.memmap(folder / ".work/repeats.map", np.uint8, "r", shape=(total,))


def pair_range(values: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """Write (`left`, `right`, `agreement`) of the candidate pairs of a range of keys, each pair once."""
    stage = DeduplicateStage.parse(values["stage"])
    numbering = Numbering(values["names"], np.array(values["starts"], np.int64))
    signatures = Signatures(folder, numbering, stage)
    repeats = repeats_map(folder, numbering.total)
    keys, documents = _slices(signatures, unit.payload["low"], unit.payload["high"])
    fresh = repeats[documents] == 0
    keys, documents = keys[fresh], documents[fresh]
    order = np.argsort(keys, kind="stable")
    finder = _Finder(signatures, stage)
    found, agreement = finder.pairs(keys[order], documents[order])
    name = candidates_path(unit.name)
    columns = {"left": found[:, 0], "right": found[:, 1], "agreement": agreement}
    write_columns(folder / name, ALGORITHM, columns)
    return Outcome([name], {"candidates": len(found), "compared": finder.compared})


def _slices(signatures: Signatures, low: int, high: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    bounds = np.array([low, high], np.uint64)
    keys, documents = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for unit, start in zip(signatures.units, signatures.numbering.starts, strict=False):
        if "key" not in unit:
            continue
        begin = np.searchsorted(unit["key"], bounds[0], "left")
        end = np.searchsorted(unit["key"], bounds[1], "right")
        keys.append(unit["key"][begin:end])
        documents.append(unit["near_row"][unit["key_row"][begin:end]].astype(np.int64) + start)
    return np.concatenate(keys), np.concatenate(documents)


class _Finder:
    """Pairs out of groups, checked by their signatures."""

    def __init__(self, signatures: Signatures, stage: DeduplicateStage) -> None:
        assert stage.near is not None
        self.signatures, self.across, self.near = signatures, stage.across, stage.near
        self.compared = 0

    def pairs(self, keys: NDArray[np.uint64], documents: NDArray[np.int64]) -> tuple[Pairs, NDArray[np.float32]]:
        """(pairs, agreement) of documents in the order of their keys."""
        found = [np.zeros((0, 2), np.int64)]
        held: list[Pairs] = []
        size = 0
        for some in self._grouped(keys, documents):
            held.append(some)
            size += len(some)
            if size >= PAIRS_AT_ONCE:
                found, held, size = [self._agreeing(np.concatenate([*found, *held]))], [], 0
        pairs = self._agreeing(np.concatenate([*found, *held]))
        return pairs, self._agreement(pairs)

    def _grouped(self, keys: NDArray[np.uint64], documents: NDArray[np.int64]) -> Iterator[Pairs]:
        for size, begins in groups_by_size(group_starts(keys), len(documents)):
            if size > ALL_PAIRS:
                for begin in begins:
                    yield from self._large(documents[begin : begin + size], int(keys[begin]))
                continue
            left, right = np.triu_indices(size, 1)
            step = max(1, PAIRS_AT_ONCE // len(left))
            for first in range(0, len(begins), step):
                rows = begins[first : first + step, None]
                both = documents[rows + left].ravel(), documents[rows + right].ravel()
                yield np.column_stack(both)

    def _large(self, group: NDArray[np.int64], key: int) -> Iterator[Pairs]:
        """Pairs of documents that stand close to each other; they must agree more than those of small groups."""
        texts, source = self.signatures.column("exact", group), self.signatures.column("source", group)
        columns = self._read_from(group, key)
        group = group[np.lexsort((source, texts[:, 1], texts[:, 0], *reversed(columns)))]
        for step in range(1, NEIGHBOURS + 1):
            pairs = np.column_stack((group[:-step], group[step:]))
            yield pairs[self._agreement(pairs) >= _least(self.near) + MARGIN / 2]

    def _read_from(self, group: NDArray[np.int64], key: int) -> list[NDArray[np.uint16]]:
        """The places of the signatures that a large group is ordered by: from one that the key decides."""
        parts = []
        for begin in range(0, len(group), AT_ONCE):
            places = self.signatures.places(group[begin : begin + AT_ONCE])
            width = places.shape[1]
            parts.append(places[:, (key % width + np.arange(min(ORDERED_BY, width))) % width])
        return list(np.concatenate(parts).T)

    def _agreeing(self, pairs: Pairs) -> Pairs:
        """The pairs whose signatures agree, each once, the smaller number first."""
        pairs = np.unique(np.sort(pairs, axis=1), axis=0)
        if not self.across:
            sources = [self.signatures.column("source", pairs[:, side]) for side in (0, 1)]
            pairs = pairs[sources[0] == sources[1]]
        return pairs[self._agreement(pairs) >= _least(self.near)]

    def _agreement(self, pairs: Pairs) -> NDArray[np.float32]:
        """Share of the places in which signatures agree; with SimHash, of the bits."""
        found = np.empty(len(pairs), np.float32)
        self.compared += len(pairs)
        for begin in range(0, len(pairs), AT_ONCE):
            some = pairs[begin : begin + AT_ONCE]
            left, right = (self.signatures.places(some[:, side]) for side in (0, 1))
            if self.near.method == "simhash":
                found[begin : begin + len(some)] = 1 - simhash.distance(left, right) / simhash.BITS
            else:
                found[begin : begin + len(some)] = (left == right).mean(axis=1, dtype=np.float32)
        return found


def _least(near: Near) -> float:
    """The agreement from which a pair is looked at."""
    return 1 - simhash.DISTANCE / simhash.BITS if near.method == "simhash" else near.threshold - MARGIN
