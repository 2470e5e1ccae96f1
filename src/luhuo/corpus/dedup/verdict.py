"""Verdicts: what deduplication says of each record, in a file a unit, aligned with the records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from luhuo.core.atomic import atomic_path
from luhuo.corpus.dedup.clusters import REASONS, Clusters
from luhuo.corpus.dedup.records import Numbering
from luhuo.corpus.dedup.repeated import joined, read_cuts
from luhuo.corpus.dedup.signatures import Signatures
from luhuo.corpus.dedup.stages import DeduplicateStage
from luhuo.corpus.documents import writer
from luhuo.corpus.factory.executors import Outcome, Unit
from luhuo.corpus.factory.records import read_lines, to_line
from luhuo.corpus.factory.watch import Watch

TARGET = "luhuo.corpus.dedup.verdict:write_unit"


@dataclass(frozen=True)
class Verdict:
    """What deduplication says of one record."""

    kept: bool
    reason: str | None
    """Why it is not kept: exact, near or semantic."""
    cluster: str
    """Smallest id among its duplicates and itself."""
    of: str | None
    """The id of the duplicate that is kept instead."""
    cuts: list[tuple[int, int, str]] = field(default_factory=list)
    """Characters of the text that repeat other documents: (start, end, "paragraph", "line" or "substring"), in order
    and apart."""


def verdicts_path(artifact: Path, unit: str) -> Path:
    """The verdicts on a unit."""
    return artifact / "verdicts" / f"{unit}.jsonl.zst"


def verdicts(artifact: Path, unit: str) -> Iterator[Verdict]:
    """The verdicts on the records of a unit, in their order. Raises `LuhuoError` if the file is missing or damaged."""
    for row in read_lines(verdicts_path(artifact, unit)):
        cuts = [(start, end, kind) for start, end, kind in row["cuts"]]
        yield Verdict(row["kept"], row["reason"], row["cluster"], row["of"], cuts)


def write_unit(values: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """Write the verdicts on a unit."""
    stage = DeduplicateStage.parse(values["stage"])
    numbering = Numbering(values["names"], np.array(values["starts"], np.int64))
    signatures = Signatures(folder, numbering, stage)
    clusters = Clusters.open(folder, numbering.total)
    first, count = unit.payload["first"], unit.payload["records"]
    documents = np.arange(first, first + count)
    kept, reason = clusters.kept[documents], clusters.reason[documents]
    names = _hexadecimal(signatures.column("id", clusters.name[documents]))
    best = _hexadecimal(signatures.column("id", kept))
    cuts: dict[int, list[tuple[int, int, str]]] = {}
    for kind, ranges in values["cuts"].items():
        for document, start, end in read_cuts(folder, kind, ranges, first, first + count):
            cuts.setdefault(document - first, []).append((start, end, kind))
    path = verdicts_path(folder, unit.name)
    with atomic_path(path) as temporary, writer(temporary, level=3) as handle:
        for place in range(count):
            lost = bool(reason[place])
            row = {"kept": not lost, "reason": REASONS[reason[place]] if lost else None, "cluster": names[place]}
            row |= {"of": best[place] if lost else None, "cuts": joined(cuts.get(place, []))}
            handle.write(to_line(row))
    merged = [joined(some) for some in cuts.values()]
    characters = sum(end - start for some in merged for start, end, _ in some)
    told = {"cut_documents": len(merged), "cut_characters": characters}
    return Outcome([path.relative_to(folder).as_posix()], told)


def _hexadecimal(ids: Any) -> list[str]:
    """Ids as they are written: 32 hexadecimal digits."""
    data = np.ascontiguousarray(ids).astype(">u8").tobytes().hex()
    return [data[start : start + 32] for start in range(0, len(data), 32)]
