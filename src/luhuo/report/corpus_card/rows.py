"""The documents of a corpus one after another, with everything that is known of each.

Where the annotate artifact is there, its units are gone through: records, signals, verdicts, and of what the filter
stage dropped the reasons. Where it is gone, documents and dropped ones are; of the latter only the beginning is left.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.corpus.dedup import Verdict, verdicts
from luhuo.corpus.documents import SPLITS, documents_path
from luhuo.corpus.factory import records
from luhuo.files.streams import DAMAGED, open_text
from luhuo.report.corpus_card.family import Corpus

BLOCK = 50_000
"""Documents of a split that are one part: what is kept of a part must fit into memory."""


@dataclass(frozen=True)
class Part:
    """A share of the rows: a unit of the factory ("unit"), dropped rows of a unit ("dropped"), or documents of a
    split from number `start` on ("documents")."""

    name: str
    kind: str
    file: str
    """Name of the unit, or of the split."""
    start: int = 0
    count: int | None = None


@dataclass(frozen=True)
class Row:
    """One document."""

    line: int
    """Its place in its part."""
    record: dict[str, Any]
    signals: dict[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None
    reasons: list[list[Any]] | None = None
    """[code, value] of each reason it was dropped for; empty if it is kept, None where nobody decided."""
    dropped_line: int = -1
    """Its line among the dropped ones of the unit, or -1."""
    split: str | None = None


def parts(corpus: Corpus) -> list[Part]:
    """All parts, in order."""
    if corpus.annotated is not None:
        return [Part(row["name"], "unit", row["name"]) for row in records.units(corpus.annotated)]
    found = []
    for split in SPLITS:
        total = corpus.manifest["metrics"].get(f"documents.{split}", 0)
        for start in range(0, total, BLOCK):
            found.append(Part(f"{split}-{start // BLOCK:05d}", "documents", split, start, min(BLOCK, total - start)))
    if corpus.filtered is not None:
        names = sorted(file.name.removesuffix(".jsonl.zst") for file in (corpus.filtered / "dropped").glob("*.zst"))
        found += [Part(f"dropped-{name}", "dropped", name) for name in names]
    return found


def rows(corpus: Corpus, part: Part) -> Iterator[Row]:
    """The rows of a part. Raises `LuhuoError` if a file is missing or damaged, or the artifacts do not fit."""
    if part.kind == "unit":
        yield from _unit_rows(corpus, part.file)
        return
    path = _text_file(corpus, part)
    for line, text in enumerate(lines(path, part.start, part.count)):
        record = json.loads(text)
        if part.kind == "documents":
            yield Row(line, record, reasons=[] if corpus.filtered else None, split=part.file)
        else:
            yield _dropped_row(line, record)


def row_at(corpus: Corpus, part: Part, line: int, dropped_line: int) -> Row:
    """One row, without reading those before it as JSON. `dropped_line`: see `Row`. Raises `LuhuoError`."""
    if part.kind != "unit":
        (text,) = _one(_text_file(corpus, part), part.start + line)
        record = json.loads(text)
        if part.kind == "dropped":
            return _dropped_row(line, record)
        return Row(line, record, reasons=[] if corpus.filtered else None, split=part.file)
    assert corpus.annotated is not None
    (text,), (values,) = (
        _one(path(corpus.annotated, part.file), line) for path in (records.records_path, records.signals_path)
    )
    verdict = reasons = None
    if corpus.duplicates is not None:
        verdict = next(itertools.islice(verdicts(corpus.duplicates, part.file), line, None))
    if corpus.filtered is not None:
        told = [] if dropped_line < 0 else _one(_dropped_path(corpus.filtered, part.file), dropped_line)
        reasons = json.loads(told[0])["reasons"] if told else []
    return Row(line, json.loads(text), json.loads(values), verdict, reasons, dropped_line)


def lines(path: Path, start: int = 0, count: int | None = None) -> Iterator[str]:
    """Lines of a `.jsonl.zst` file from number `start` on. Raises `LuhuoError` if it is missing or damaged."""
    try:
        with open_text(path) as handle:
            yield from itertools.islice(handle, start, None if count is None else start + count)
    except (*DAMAGED, FileNotFoundError) as error:
        raise LuhuoError(
            tr("A file of the corpus is damaged or missing.", "语料文件损坏或缺失。"),
            found=error,
            where=path,
            fix=tr("Run the stage that wrote it again.", "请重新运行写出它的阶段。"),
        ) from error


def texts_of(corpus: Corpus, part: Part, wanted: Iterator[int]) -> Iterator[tuple[int, str]]:
    """(line, text) of some rows of a part, in order; the others are passed over unread."""
    path = _text_file(corpus, part)
    held = lines(path, part.start, part.count)
    place = 0
    for line in wanted:
        text = next(itertools.islice(held, line - place, None))
        place = line + 1
        yield line, json.loads(text)["text"]


def _unit_rows(corpus: Corpus, unit: str) -> Iterator[Row]:
    assert corpus.annotated is not None
    both = zip(records.read_records(corpus.annotated, unit), records.read_signals(corpus.annotated, unit), strict=True)
    found = None if corpus.duplicates is None else verdicts(corpus.duplicates, unit)
    path = None if corpus.filtered is None else _dropped_path(corpus.filtered, unit)
    dropped = iter(()) if path is None else enumerate(records.read_lines(path))
    head = next(dropped, None)
    for line, (record, signals) in enumerate(both):
        verdict = next(found, None) if found is not None else None
        if head is not None and head[1]["id"] == record["id"] and not _of_another(head[1], verdict):
            yield Row(line, record, signals, verdict, head[1]["reasons"], head[0])
            head = next(dropped, None)
        else:
            yield Row(line, record, signals, verdict, None if path is None else [])
    if head is not None:
        raise LuhuoError(
            tr("The dropped documents are not those of these records.", "被丢弃的文档与这些记录不对应。"),
            found=head[1]["id"],
            where=path,
        )


def _of_another(dropped: dict[str, Any], verdict: Verdict | None) -> bool:
    """Whether a dropped row with this record's id is its later twin: equal texts of a source have one id, and of
    those only the first is no duplicate."""
    return verdict is not None and verdict.kept and str(dropped["reasons"][0][0]).startswith("duplicate_")


def _dropped_row(line: int, found: dict[str, Any]) -> Row:
    record = {name: value for name, value in found.items() if name not in ("reasons", "of", "chars")}
    return Row(line, record, {"chars": found["chars"]}, None, found["reasons"], line)


def _text_file(corpus: Corpus, part: Part) -> Path:
    """Where the texts of a part are."""
    if part.kind == "unit" and corpus.annotated is not None:
        return records.records_path(corpus.annotated, part.file)
    if part.kind == "dropped" and corpus.filtered is not None:
        return _dropped_path(corpus.filtered, part.file)
    assert corpus.documents is not None
    return documents_path(corpus.documents, part.file)


def _dropped_path(filtered: Path, unit: str) -> Path:
    return filtered / "dropped" / f"{unit}.jsonl.zst"


def _one(path: Path, line: int) -> list[str]:
    found = list(lines(path, line, 1))
    if not found:
        raise LuhuoError(tr("There is no such document.", "没有这篇文档。"), found=line, where=path)
    return found
