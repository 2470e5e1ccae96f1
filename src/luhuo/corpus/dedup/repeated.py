"""Spans that occur again: one stays, the others are cut.

The one that stays is in the document of the best source, of these in that with the smallest id. So whatever is cut
stands elsewhere in the corpus, also where spans overlap. (`Repeats.keep` = 0 cuts all: for notices nobody needs.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luhuo.corpus.dedup.ranges import group_starts
from luhuo.corpus.dedup.records import Numbering
from luhuo.corpus.dedup.signatures import Signatures
from luhuo.corpus.dedup.spans import ALGORITHM as SPANS
from luhuo.corpus.dedup.spans import spans_path
from luhuo.corpus.dedup.stages import DeduplicateStage
from luhuo.corpus.dedup.tables import Column, read_columns, write_columns
from luhuo.corpus.factory.executors import Outcome, Unit
from luhuo.corpus.factory.watch import Watch

TARGET = "luhuo.corpus.dedup.repeated:cut_range"
ALGORITHM = "cuts-1"
RANGE_SPANS = 8_000_000
"""Spans sorted together."""

KINDS = ("paragraph", "line", "substring")

Spans = dict[str, Column]


def cuts_path(kind: str, unit: str) -> str:
    """Where the cuts of a range lie, below the folder of the artifact."""
    return f".work/{kind}-cuts/{unit}.columns"


def cut_range(values: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """Write what is cut of the spans of a range (`document`, `start`, `end`), in the order of the documents."""
    stage, kind = DeduplicateStage.parse(values["stage"]), values["kind"]
    numbering = Numbering(values["names"], np.array(values["starts"], np.int64))
    signatures = Signatures(folder, numbering, stage)
    spans = _several(_slices(folder, kind, numbering, unit.payload["low"], unit.payload["high"]))
    spans = _ranked(spans, signatures, stage)
    cut = _lost(spans, stage, kind)
    columns = {name: spans[name][cut] for name in ("document", "start", "end")}
    order = np.lexsort((columns["end"], columns["start"], columns["document"]))
    name = cuts_path(kind, unit.name)
    write_columns(folder / name, ALGORITHM, {field: column[order] for field, column in columns.items()})
    return Outcome([name], {"cuts": len(order)})


def _slices(folder: Path, kind: str, numbering: Numbering, low: int, high: int) -> Spans:
    """The spans of all units whose number begins in [low, high]."""
    bounds = np.array([low, high], np.uint64)
    parts: dict[str, list[Column]] = {name: [] for name in ("key", "document", "start", "end", "place")}
    for name, first in zip(numbering.names, numbering.starts, strict=False):
        spans = read_columns(folder / spans_path(kind, name), SPANS)
        begin = np.searchsorted(spans["key"][:, 0], bounds[0], "left")
        end = np.searchsorted(spans["key"][:, 0], bounds[1], "right")
        for field in ("key", "start", "end", "place"):
            parts[field].append(spans[field][begin:end])
        parts["document"].append(spans["row"][begin:end].astype(np.int64) + first)
    return {field: np.concatenate(columns) for field, columns in parts.items()}


def _several(spans: Spans) -> Spans:
    """The spans whose first number occurs more than once: what is left is little enough to be ranked."""
    order = np.argsort(spans["key"][:, 0], kind="stable")
    starts = group_starts(spans["key"][order, 0])
    sizes = np.diff(np.append(starts, len(order)))
    order = order[np.repeat(sizes > 1, sizes)]
    return {field: column[order] for field, column in spans.items()}


def _ranked(spans: Spans, signatures: Signatures, stage: DeduplicateStage) -> Spans:
    """Equal spans behind one another, the one to keep first. `group` numbers them."""
    ids = signatures.column("id", spans["document"])
    rank = [spans["place"], spans["document"], signatures.column("origin", spans["document"]), ids[:, 1], ids[:, 0]]
    rank.append(signatures.column("priority", spans["document"]))
    source = signatures.column("source", spans["document"])
    keys = [spans["key"][:, 1], spans["key"][:, 0], *(() if stage.across else (source,))]
    order = np.lexsort((*rank, *keys))
    spans = {field: column[order] for field, column in spans.items()}
    starts = group_starts(np.column_stack([key[order] for key in keys]))
    sizes = np.diff(np.append(starts, len(order)))
    return spans | {"first": np.repeat(starts, sizes), "size": np.repeat(sizes, sizes)}


def _lost(spans: Spans, stage: DeduplicateStage, kind: str) -> NDArray[np.bool_]:
    """Which of the ranked spans are cut."""
    if not len(spans["document"]):
        return np.zeros(0, np.bool_)
    first, document = spans["first"], spans["document"]
    if kind == "substring":
        assert stage.substrings is not None
        overlaps = (document == document[first]) & (
            spans["place"].astype(np.int64) - spans["place"][first] < stage.substrings.tokens
        )
        return ~overlaps
    repeats = stage.paragraphs if kind == "paragraph" else stage.lines
    assert repeats is not None
    new = np.ones(len(document), np.int64)
    new[1:] = (document[1:] != document[:-1]) | (first[1:] != first[:-1])
    documents = np.add.reduceat(new, np.unique(first))
    often = np.repeat(documents >= repeats.times, np.diff(np.append(np.unique(first), len(document))))
    return often & ((np.arange(len(first)) != first) | (repeats.keep == 0))


def read_cuts(folder: Path, kind: str, ranges: list[str], low: int, high: int) -> list[tuple[int, int, int]]:
    """(document, start, end) of the cuts of a kind in the documents low … high - 1."""
    found: list[tuple[int, int, int]] = []
    for name in ranges:
        cuts = read_columns(folder / cuts_path(kind, name), ALGORITHM)
        begin, end = np.searchsorted(cuts["document"], [low, high])
        columns = (cuts[field][begin:end].tolist() for field in ("document", "start", "end"))
        found.extend(zip(*columns, strict=True))
    return found


def joined(cuts: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Cuts of one text in order and apart; where kinds meet, the one that begins first (or is longer) names both."""
    merged: list[tuple[int, int, str]] = []
    for start, end, kind in sorted(cuts, key=lambda cut: (cut[0], -cut[1], KINDS.index(cut[2]))):
        if merged and start <= merged[-1][1]:
            before = merged[-1]
            merged[-1] = (before[0], max(before[1], end), before[2])
        else:
            merged.append((start, end, kind))
    return merged
