"""Documents that are equal in their looser form: a sort by their 128-bit keys, a range of keys at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luhuo.corpus.dedup.clusters import EDGES
from luhuo.corpus.dedup.ranges import group_starts
from luhuo.corpus.dedup.records import Numbering
from luhuo.corpus.dedup.signatures import Signatures
from luhuo.corpus.dedup.stages import DeduplicateStage
from luhuo.corpus.dedup.tables import write_columns
from luhuo.corpus.factory.executors import Outcome, Unit
from luhuo.corpus.factory.watch import Watch

TARGET = "luhuo.corpus.dedup.exact:join_range"
RANGE_DOCUMENTS = 4_000_000
"""Documents sorted together."""


def pairs_path(unit: str) -> str:
    """Where the pairs of a range lie, below the folder of the artifact."""
    return f".work/exact/{unit}.columns"


def join_range(values: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """Write the pairs (`left`, `right`) of documents that are equal, the first of them on the left."""
    stage = DeduplicateStage.parse(values["stage"])
    numbering = Numbering(values["names"], np.array(values["starts"], np.int64))
    signatures = Signatures(folder, numbering, stage)
    low, high = unit.payload["low"], unit.payload["high"]
    found = [_slice(signatures, number, low, high) for number in range(len(numbering.names))]
    documents = np.concatenate(found)
    keys = signatures.column("exact", documents)
    source = signatures.column("source", documents) if not stage.across else np.zeros(len(documents), np.uint64)
    order = np.lexsort((documents, source, keys[:, 1], keys[:, 0]))
    together = np.column_stack((keys, source))[order]
    documents = documents[order]
    starts = group_starts(together)
    first = np.repeat(documents[starts], np.diff(np.append(starts, len(documents))))
    repeated = documents != first
    name = pairs_path(unit.name)
    write_columns(folder / name, EDGES, {"left": first[repeated], "right": documents[repeated]})
    return Outcome([name], {"repeats": int(repeated.sum())})


def _slice(signatures: Signatures, number: int, low: int, high: int) -> NDArray[np.int64]:
    """The documents of a unit whose key begins in [low, high]."""
    unit = signatures.units[number]
    if not len(unit["exact"]):
        return np.zeros(0, np.int64)
    order = unit["exact_order"]
    bounds = np.array([low, high], np.uint64)
    begin = np.searchsorted(unit["exact"][:, 0], bounds[0], "left", sorter=order)
    end = np.searchsorted(unit["exact"][:, 0], bounds[1], "right", sorter=order)
    return order[begin:end].astype(np.int64) + signatures.numbering.starts[number]
