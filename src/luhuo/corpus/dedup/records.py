"""The records of an annotate artifact as deduplication sees them: numbered through, read in batches of some length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.corpus.factory import records
from luhuo.corpus.factory.executors import Unit

BATCH_CHARS = 262_144
"""Characters worked on together: their columns of 64-bit numbers stay in the processor's cache."""
BATCH_RECORDS = 4096


@dataclass(frozen=True)
class Batch:
    """Records behind one another in a unit."""

    first: int
    """Number of the first of them in the unit."""
    rows: Sequence[dict[str, Any]]

    @property
    def texts(self) -> list[str]:
        """Their texts."""
        return [row["text"] for row in self.rows]


def work_units(artifact: Path) -> list[Unit]:
    """One unit of work for each unit of records; `payload["first"]` is the number of its first document in all.
    Raises `LuhuoError` if there is nothing at all."""
    units, first = [], 0
    for row in records.units(artifact):
        units.append(Unit(row["name"], row["bytes"], {"first": first, "records": row["records"]}))
        first += row["records"]
    if not first:
        raise LuhuoError(tr("The corpus has no records.", "语料中没有任何记录。"), where=artifact)
    return units


def batches(artifact: Path, unit: str, *, careful: bool = False) -> Iterator[Batch]:
    """The records of a unit in batches; `careful`: one by one."""
    held: list[dict[str, Any]] = []
    first = chars = 0
    most_chars, most_records = (1, 1) if careful else (BATCH_CHARS, BATCH_RECORDS)
    for row in records.read_records(artifact, unit):
        held.append(row)
        chars += len(row["text"])
        if chars >= most_chars or len(held) >= most_records:
            yield Batch(first, held)
            first, held, chars = first + len(held), [], 0
    if held:
        yield Batch(first, held)


@dataclass(frozen=True)
class Numbering:
    """Documents numbered through all units, in the order of the units."""

    names: Sequence[str]
    starts: NDArray[np.int64]
    """Number of the first document of each unit, and at last of all documents: (units + 1,)."""

    @classmethod
    def of(cls, units: Sequence[Unit]) -> Numbering:
        """The numbering of these units."""
        counts = [unit.payload["records"] for unit in units]
        return cls([unit.name for unit in units], np.concatenate(([0], np.cumsum(counts))).astype(np.int64))

    @property
    def total(self) -> int:
        """How many documents there are."""
        return int(self.starts[-1])

    def by_unit(self, documents: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
        """(number of a unit, places in `documents` of those that lie in it, their rows in the unit)."""
        unit = np.searchsorted(self.starts, documents, side="right") - 1
        order = np.argsort(unit, kind="stable")
        borders = np.flatnonzero(np.diff(unit[order])) + 1
        for places in np.split(order, borders) if len(order) else []:
            number = int(unit[places[0]])
            yield number, places, documents[places] - self.starts[number]
