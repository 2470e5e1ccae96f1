"""Candidate pairs compared: the texts of candidates laid ready for any access, then pair by pair.

Candidates are divided by connected component; within one, pairs are taken in the order of their agreement, and a pair
whose documents are already joined is not compared: the components that result are the same.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from luhuo.corpus.dedup import folding
from luhuo.corpus.dedup.clusters import EDGES
from luhuo.corpus.dedup.records import Numbering, batches
from luhuo.corpus.dedup.similarity import is_duplicate
from luhuo.corpus.dedup.stages import DeduplicateStage
from luhuo.corpus.dedup.tables import read_columns, write_columns
from luhuo.corpus.factory.executors import Outcome, Unit
from luhuo.corpus.factory.watch import Watch

TEXTS_TARGET = "luhuo.corpus.dedup.compare:lay_ready"
PAIRS_TARGET = "luhuo.corpus.dedup.compare:compare_pairs"
TEXTS, PAIRS = f"texts fold-{folding.VERSION}", "pairs-1"


def texts_path(unit: str) -> str:
    """Where the candidates' folded texts of a unit lie."""
    return f".work/texts/{unit}.columns"


def pairs_path(unit: str) -> str:
    """Where the pairs of some components lie."""
    return f".work/pairs/{unit}.columns"


def edges_path(unit: str) -> str:
    """Where those of them lie that are duplicates."""
    return f".work/edges/{unit}.columns"


def lay_ready(values: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """Write the folded texts of a unit's candidates: `row` in rising order, `start` (one more), `bytes` in UTF-8."""
    stage = DeduplicateStage.parse(values["stage"])
    wanted = np.memmap(folder / ".work/wanted.map", np.uint8, "r", shape=(values["starts"][-1],))
    wanted = wanted[unit.payload["first"] : unit.payload["first"] + unit.payload["records"]]
    rows = np.flatnonzero(wanted).astype(np.uint32)
    texts: list[bytes] = []
    for batch in batches(Path(stage.annotated), unit.name) if len(rows) else ():
        some = [row["text"] for place, row in enumerate(batch.rows) if wanted[batch.first + place]]
        texts.extend(folding.fold_text(text).encode("utf-8", "surrogatepass") for text in some)
    starts = np.concatenate(([0], np.cumsum([len(text) for text in texts]))).astype(np.int64)
    name = texts_path(unit.name)
    columns = {"row": rows, "start": starts, "bytes": np.frombuffer(b"".join(texts), np.uint8)}
    write_columns(folder / name, TEXTS, columns)
    return Outcome([name], {"candidates": len(rows)})


class Texts:
    """Folded texts of candidates by their numbers."""

    def __init__(self, folder: Path, numbering: Numbering) -> None:
        self._units = [read_columns(folder / texts_path(name), TEXTS) for name in numbering.names]
        self._starts = numbering.starts
        self.text = lru_cache(maxsize=1024)(self._text)

    def _text(self, document: int) -> str:
        number = int(np.searchsorted(self._starts, document, side="right")) - 1
        unit = self._units[number]
        place = int(np.searchsorted(unit["row"], np.uint32(document - self._starts[number])))
        begin, end = unit["start"][place : place + 2]
        return unit["bytes"][begin:end].tobytes().decode("utf-8", "surrogatepass")


def compare_pairs(values: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """Write the pairs (`left`, `right`) that join duplicates, as few as their components need."""
    stage = DeduplicateStage.parse(values["stage"])
    assert stage.near is not None
    numbering = Numbering(values["names"], np.array(values["starts"], np.int64))
    texts = Texts(folder, numbering)
    pairs = read_columns(folder / pairs_path(unit.name), PAIRS)
    order = np.lexsort((pairs["right"], pairs["left"], -pairs["agreement"], pairs["component"]))
    above: dict[int, int] = {}
    joined: list[tuple[int, int]] = []
    compared = 0
    for number in order:
        left, right = int(pairs["left"][number]), int(pairs["right"][number])
        one, other = _root(above, left), _root(above, right)
        if one == other:
            continue
        compared += 1
        if is_duplicate(texts.text(left), texts.text(right), stage.near, float(pairs["agreement"][number])):
            above[max(one, other)] = min(one, other)
            joined.append((left, right))
    found = np.array(joined, np.int64).reshape(-1, 2)
    name = edges_path(unit.name)
    write_columns(folder / name, EDGES, {"left": found[:, 0], "right": found[:, 1]})
    return Outcome([name], {"compared": compared, "duplicates": len(found)})


def _root(above: dict[int, int], number: int) -> int:
    while (higher := above.get(number, number)) != number:
        above[number] = above.get(higher, higher)
        number = higher
    return number
