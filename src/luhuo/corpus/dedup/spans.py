"""Spans of kept documents with the 128-bit number of their content: what is looked through for repetitions.

One file a unit for each kind of span, in rising order of the numbers: `key` (2 x u64), `row` (record in the unit),
`start` and `end` (characters of its text), `place` (order within the record).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from luhuo.corpus.dedup import folding, shingles
from luhuo.corpus.dedup.folding import Folded
from luhuo.corpus.dedup.shingles import U64, mix
from luhuo.corpus.dedup.tables import Column, write_columns

ALGORITHM = f"spans-1 fold-{folding.VERSION}"
PLACES = 65_536
"""Factors of a hash; they begin anew in a longer span."""


class Spans(NamedTuple):
    """Spans of some records."""

    key: U64
    row: NDArray[np.uint32]
    start: NDArray[np.uint32]
    end: NDArray[np.uint32]
    place: NDArray[np.uint32]


def spans_path(kind: str, unit: str) -> str:
    """Where the spans of a kind in a unit lie, below the folder of the artifact."""
    return f".work/{kind}/{unit}.columns"


def write_spans(folder: Path, kind: str, unit: str, parts: Sequence[Spans]) -> str:
    """Write the spans of a unit and return the file's name."""
    joined = Spans(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    order = np.argsort(joined.key[:, 0], kind="stable")
    name = spans_path(kind, unit)
    columns: dict[str, Column] = {field: column[order] for field, column in joined._asdict().items()}
    write_columns(folder / name, ALGORITHM, columns)
    return name


def no_spans() -> Spans:
    """Nothing, in the right types."""
    none: Any = np.zeros(0, np.uint32)
    return Spans(np.zeros((0, 2), np.uint64), none, none, none, none)


def content_keys(folded: Folded, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> U64:
    """Two independent multilinear hashes of stretches of folded characters, which do not overlap: (stretches, 2)."""
    sizes = ends - starts
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    numbers = shingles.character_numbers()[folded.codes[np.repeat(starts, sizes) + within]]
    borders = np.cumsum(sizes) - sizes
    filled = sizes > 0
    keys = np.zeros((len(starts), 2), np.uint64)
    for side, table in enumerate(_factors()):
        if filled.any():
            sums = np.add.reduceat(numbers * table[within % PLACES], borders[filled])
            keys[filled, side] = mix(sums + sizes[filled].astype(np.uint64))
    return keys


@lru_cache(maxsize=1)
def _factors() -> tuple[U64, U64]:
    both = shingles.factors(2 * PLACES)
    return both[:PLACES], both[PLACES:]
