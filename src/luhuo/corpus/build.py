"""The corpus stage at work: read, normalise, deduplicate, split, and account for every record.

Two passes: the first writes what is kept to a spool and learns the hashes of each source, the second divides it. So
memory holds 16 bytes of digest a document, and a small source still gets its share of test documents.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from luhuo.core.artifact import Workspace
from luhuo.core.atomic import write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import Progress
from luhuo.corpus.documents import SPLITS, documents_path, write_document, writer
from luhuo.corpus.normalise import language, normalise
from luhuo.corpus.pieces import pieces
from luhuo.corpus.sources import LANGUAGE_CODE, name_source
from luhuo.corpus.split import Splitter
from luhuo.files.readers import list_files, read_records
from luhuo.files.records import EXCERPT, Broken, Record, broken
from luhuo.files.references import Resolved, resolve
from luhuo.files.streams import open_text

if TYPE_CHECKING:
    from luhuo.corpus.stages import SourceConfig

KEEP_FIRST = ("test", "valid", "train")
"""Order in which the files of a source that is already split are read: a text twice there stays held out."""


def build(sources: Sequence[SourceConfig], seed: int, out: Workspace) -> None:
    """Write `documents/`, `quarantine.jsonl` and `report.json`. Raises `LuhuoError` if a source gives nothing."""
    spool = out.path / ".spool.zst"
    seen: set[bytes] = set()
    report: dict[str, Any] = {}
    with (out.path / "quarantine.jsonl").open("w", encoding="utf-8") as quarantine, ExitStack() as open_files:
        splits = {s: open_files.enter_context(writer(documents_path(out.path, s))) for s in SPLITS}
        for source in sources:
            resolved = resolve(source.path)
            reader = _SourceReader(source, resolved, seen, quarantine)
            splitter = Splitter(source.valid, source.test, seed)
            with writer(spool, level=1) as handle:
                for document in reader.documents():
                    if document["split"] is None:
                        splitter.see(document["digest"])
                    write_document(handle, document)
            report[source.name] = reader.report() | {"splits": _divide(spool, splitter, source, splits)}
            _require_something(source, reader, report[source.name])
            name_source(source.name, source.licence, resolved, out)
    spool.unlink()
    write_json(out.path / "report.json", {"sources": report, "splits": _totals(report)})
    _results(report, out)


class _SourceReader:
    """Reads one source and counts what becomes of each record."""

    def __init__(self, source: SourceConfig, resolved: Resolved, seen: set[bytes], quarantine: TextIO) -> None:
        self.source, self.resolved, self.seen, self.quarantine = source, resolved, seen, quarantine
        self.read = self.kept = self.duplicates = self.bytes = 0
        self.broken: Counter[str] = Counter()
        self.capped = False

    def documents(self) -> Iterator[dict[str, Any]]:
        """Yield {"digest", "split" or None, "text", "lang"} of what is kept."""
        limit = self.source.max_mb * 1e6 if self.source.max_mb else float("inf")
        with Progress(self.source.name, unit="MB") as progress:
            for split, record in self._records():
                if self.bytes >= limit:
                    self.capped = True
                    return
                self.read += 1
                document = self._document(record)
                if document is not None:
                    size = len(document["text"].encode())
                    self.bytes += size
                    progress.advance(size / 1e6)
                    yield document | {"split": split}

    def report(self) -> dict[str, Any]:
        """The counts. Documents read = kept + duplicates + broken."""
        return {
            "read": self.read,
            "kept": self.kept,
            "duplicates": self.duplicates,
            "broken": dict(sorted(self.broken.items())),
            "capped": self.capped,
            "licence": self.source.licence,
        }

    def _records(self) -> Iterator[tuple[str | None, Record | Broken]]:
        options: dict[str, Any] = {"text_field": self.source.text_field, "encoding": self.source.encoding}
        if not self.source.presplit:
            for record in read_records(self.resolved.path, **options):
                yield None, record
            return
        files = list_files(self.resolved.path)
        named = [(split, f) for split in KEEP_FIRST for f in files if f.name.split(".")[0] == split]
        others = [f for f in files if f.name.split(".")[0] not in KEEP_FIRST]
        if others or not named:
            raise LuhuoError(
                tr("This folder is not split into train, valid and test.", "该目录没有按 train、valid、test 划分。"),
                expected="train.jsonl, valid.jsonl, test.jsonl",
                found=", ".join(f.name for f in files),
                where=self.resolved.path,
            )
        for split, file in named:
            for record in read_records(file, **options):
                yield split, record

    def _document(self, record: Record | Broken) -> dict[str, Any] | None:
        if isinstance(record, Broken):
            return self._reject(record)
        text = normalise(record.text)
        if len(text) < self.source.min_chars:
            return self._reject(broken(record.file, record.line, "too_short" if text else "empty", text))
        sha = hashlib.sha256(text.encode()).digest()[:16]
        if sha in self.seen:
            self.duplicates += 1
            return self._reject(broken(record.file, record.line, "duplicate", text), counted=True)
        self.seen.add(sha)
        self.kept += 1
        lang = self.source.lang
        if lang == "auto":
            own = record.fields.get("lang")
            lang = own if isinstance(own, str) and LANGUAGE_CODE.fullmatch(own) else language(text)
        return {"digest": sha.hex(), "text": text, "lang": lang}

    def _reject(self, found: Broken, *, counted: bool = False) -> None:
        """Write to the quarantine, with the file's path inside the source so that the result is the same anywhere."""
        if not counted:
            self.broken[found.reason] += 1
        root = self.resolved.path
        file = Path(found.file)
        name = file.relative_to(root).as_posix() if root.is_dir() and file.is_relative_to(root) else file.name
        row = {
            "source": self.source.name,
            "line": found.line,
            "reason": found.reason,
            "excerpt": found.excerpt[:EXCERPT],
            "file": name,
        }
        self.quarantine.write(json.dumps(row, ensure_ascii=False) + "\n")


def _divide(
    spool: Path, splitter: Splitter, source: SourceConfig, splits: dict[str, TextIO]
) -> dict[str, dict[str, int]]:
    """Send the spooled documents of one source to their splits, in pieces if so configured."""
    counts = {s: {"documents": 0, "bytes": 0, "chars": 0} for s in SPLITS}
    with open_text(spool) as handle:
        for line in handle:
            document = json.loads(line)
            split = document["split"] or splitter.side(document["digest"])
            text = document["text"]
            parts = list(pieces(text, source.piece_chars)) if source.piece_chars else [text]
            for number, part in enumerate(parts):
                row = {
                    "id": document["digest"] + (f"-{number}" if len(parts) > 1 else ""),
                    "text": part,
                    "lang": document["lang"],
                    "source": source.name,
                    "licence": source.licence,
                }
                write_document(splits[split], row)
                counts[split]["documents"] += 1
                counts[split]["bytes"] += len(part.encode())
                counts[split]["chars"] += len(part)
    return counts


def _require_something(source: SourceConfig, reader: _SourceReader, report: dict[str, Any]) -> None:
    if report["splits"]["train"]["documents"]:
        return
    raise LuhuoError(
        tr(f"The source “{source.name}” gives no training text.", f"来源“{source.name}”没有给出任何训练文本。"),
        expected=tr("at least one document", "至少一篇文档"),
        found=tr(
            f"{reader.read} records, {reader.duplicates} duplicates, broken: {dict(reader.broken)}",
            f"{reader.read} 条记录，{reader.duplicates} 条重复，无法使用：{dict(reader.broken)}",
        ),
        where=source.path,
        fix=tr("Check text_field, encoding and min_chars.", "检查 text_field、encoding 和 min_chars。"),
    )


def _totals(report: dict[str, Any]) -> dict[str, dict[str, int]]:
    names = ("documents", "bytes", "chars")
    return {s: {n: sum(r["splits"][s][n] for r in report.values()) for n in names} for s in SPLITS}


def _results(report: dict[str, Any], out: Workspace) -> None:
    for split, counts in _totals(report).items():
        out.results[f"documents.{split}"] = counts["documents"]
        out.results[f"bytes.{split}"] = counts["bytes"]
    out.results["duplicates"] = sum(r["duplicates"] for r in report.values())
    out.results["broken"] = sum(sum(r["broken"].values()) for r in report.values())
    for name, row in report.items():
        out.results[f"source.{name}.documents"] = row["kept"]
        out.results[f"source.{name}.bytes"] = sum(s["bytes"] for s in row["splits"].values())
