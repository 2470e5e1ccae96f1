"""Paragraphs and lines of kept documents, as spans.

A paragraph is a run of lines with blank lines around it; in a text without blank lines each line is one, as is the
custom in Chinese. A span to cut takes the line ends behind it along.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from luhuo.corpus.dedup import folding
from luhuo.corpus.dedup.clusters import Clusters
from luhuo.corpus.dedup.records import Batch, batches
from luhuo.corpus.dedup.spans import Spans, content_keys, no_spans, write_spans
from luhuo.corpus.dedup.stages import DeduplicateStage, Repeats
from luhuo.corpus.factory.executors import Outcome, Unit
from luhuo.corpus.factory.watch import Watch

TARGET = "luhuo.corpus.dedup.paragraphs:mark_unit"
LINE_END = re.compile(r"\n\s*")
BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")


def mark_unit(values: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """Write the paragraphs, or the lines, of a unit's kept documents that are long enough."""
    stage = DeduplicateStage.parse(values["stage"])
    kind = values["kind"]
    repeats = stage.paragraphs if kind == "paragraph" else stage.lines
    assert repeats is not None
    kept = Clusters.open(folder, values["starts"][-1]).reason[unit.payload["first"] :] == 0
    parts = [no_spans()]
    for batch in batches(Path(stage.annotated), unit.name):
        parts.append(spans_of(batch, kind, repeats, kept[batch.first : batch.first + len(batch.rows)]))
    return Outcome([write_spans(folder, kind, unit.name, parts)], {"spans": sum(len(part.row) for part in parts)})


def spans_of(batch: Batch, kind: str, repeats: Repeats, kept: Any) -> Spans:
    """The spans of some records."""
    rows: list[int] = []
    starts: list[int] = []
    ends: list[int] = []
    offsets: list[int] = []
    offset = 0
    for place, text in enumerate(batch.texts):
        if kept[place]:
            borders = _borders(text, kind)
            rows.extend([batch.first + place] * (len(borders) - 1))
            starts.extend(borders[:-1])
            ends.extend(borders[1:])
            offsets.extend([offset] * (len(borders) - 1))
        offset += len(text)
    if not rows:
        return no_spans()
    folded = folding.fold(batch.texts)
    begin, end, shift = np.array(starts, np.int64), np.array(ends, np.int64), np.array(offsets, np.int64)
    first, last = (np.searchsorted(folded.places, edge + shift).astype(np.int64) for edge in (begin, end))
    dense = np.concatenate(([0], np.cumsum(folding.dense_table()[folded.codes], dtype=np.int64)))
    long_enough = (last - first) + dense[last] - dense[first] >= repeats.min_columns
    keys = content_keys(folded, first[long_enough], last[long_enough])
    columns = (np.array(rows), begin, end, begin)
    return Spans(keys, *(column[long_enough].astype(np.uint32) for column in columns))


def _borders(text: str, kind: str) -> list[int]:
    """Where spans begin, and the end of the text."""
    inner = [match.end() for match in BLANK_LINE.finditer(text)] if kind == "paragraph" else []
    inner = inner or [match.end() for match in LINE_END.finditer(text)]
    return [0, *inner, len(text)]
