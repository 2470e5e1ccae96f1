"""Streaming readers of texts: txt, md, rst, html, json, jsonl, csv, tsv and parquet, plain, `.gz` or `.zst`.

Nothing is held in memory but one line, element or page. What cannot be read is yielded as `Broken`, never dropped.
"""

from __future__ import annotations

import glob
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from luhuo.core.errors import LuhuoError, missing_extra
from luhuo.core.language import tr
from luhuo.files import structured
from luhuo.files.records import UNIT_BYTES, Broken, Record, broken, is_unicode
from luhuo.files.streams import COMPRESSIONS, format_of, lines, open_bytes, open_text

PLAIN = ("txt", "md", "rst", "text", "markdown")
STRUCTURED = ("json", "jsonl", "ndjson", "csv", "tsv", "parquet")
FORMATS = (*PLAIN, "html", "htm", "xhtml", *STRUCTURED)

DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError)
"""What reading a cut-off or damaged compressed file raises."""

DOCUMENT_CHARS = 1_000_000
"""A plain text up to this length is one document; a longer one is divided at blank lines."""


def read_records(path: str | Path, *, text_field: str = "text", encoding: str = "utf-8") -> Iterator[Record | Broken]:
    """Read a file, a folder (all files below it, in sorted order) or a glob.

    `text_field` names the text in JSON objects and table rows; dots go into nested objects. Raises `LuhuoError` if
    there is nothing to read, a single file has an unknown format, or an optional package is missing.
    """
    files = list_files(path)
    for file in files:
        if format_of(file) in FORMATS:
            yield from _read_file(file, text_field, encoding)
        elif len(files) == 1:
            raise LuhuoError(
                tr("This file format is not known.", "不认识这种文件格式。"),
                expected=", ".join(FORMATS) + tr(f", each also with {COMPRESSIONS}", f"，均可加 {COMPRESSIONS}"),
                found=file.name,
                where=file,
            )
        else:
            yield broken(file.as_posix(), 0, "unknown_format", file.name)


def list_files(path: str | Path) -> list[Path]:
    """The files a path, folder or glob names, sorted; hidden ones are left out. `LuhuoError` if there are none."""
    root = Path(path)
    if root.is_file():
        return [root]
    if root.is_dir():
        found = [f for f in root.rglob("*") if not any(p.startswith(".") for p in f.relative_to(root).parts)]
    else:
        found = [Path(name) for name in glob.glob(str(path), recursive=True)]  # noqa: PTH207 (absolute globs)
    found = sorted(f for f in found if f.is_file())
    if not found:
        raise LuhuoError(
            tr("There is nothing to read.", "没有可读的内容。"),
            expected=tr("a file, a folder or a glob such as data/*.jsonl", "文件、目录，或 data/*.jsonl 之类的通配"),
            where=path,
        )
    return found


def _read_file(file: Path, text_field: str, encoding: str) -> Iterator[Record | Broken]:
    kind = format_of(file)
    name = file.as_posix()
    try:
        if kind in PLAIN:
            yield from _plain(file, encoding)
        elif kind in STRUCTURED:
            for row in structured.read_rows(file, encoding):
                yield row if isinstance(row, Broken) else record_of(name, row.line, row.value, text_field)
        else:
            yield _html(file, encoding)
    except DAMAGED as error:
        yield broken(name, 0, "bad_compression", error)


def record_of(file: str, line: int, value: Any, text_field: str) -> Record | Broken:
    """Pick the text out of a JSON value: a plain string is the text itself."""
    if isinstance(value, str):
        text, fields = value, {}
    else:
        text, fields = value, value if isinstance(value, dict) else {}
        for part in text_field.split("."):
            if not isinstance(text, dict) or part not in text:
                return broken(file, line, "missing_field", value)
            text = text[part]
    if not isinstance(text, str):
        return broken(file, line, "not_text", text)
    if not is_unicode(text):
        return broken(file, line, "bad_encoding", text)
    if not text.strip():
        return broken(file, line, "empty")
    return Record(text, file, line, fields)


def _plain(file: Path, encoding: str) -> Iterator[Record | Broken]:
    """The whole file as one text, or, past `DOCUMENT_CHARS`, parts that end at a blank line where there is one."""
    held: list[str] = []
    start, chars, blank = 1, 0, 0
    number = 0
    with open_text(file, encoding) as handle:
        for number, line, whole in lines(handle):
            if not whole or not is_unicode(line):
                yield broken(file.as_posix(), number, "bad_encoding" if whole else "line_too_long", line)
                continue
            held.append(line)
            chars += len(line) + 1
            if not line.strip():
                blank = len(held)
            if chars > DOCUMENT_CHARS:
                cut = blank or len(held)
                yield from _text(file, start, held[:cut])
                held = held[cut:]
                start, chars, blank = number + 1 - len(held), sum(len(x) + 1 for x in held), 0
    yield from _text(file, start, held)
    if number == 0:
        yield broken(file.as_posix(), 0, "empty")


def _text(file: Path, line: int, held: list[str]) -> Iterator[Record | Broken]:
    if held:
        text = "\n".join(held)
        yield Record(text, file.as_posix(), line) if text.strip() else broken(file.as_posix(), line, "empty")


def _html(file: Path, encoding: str) -> Record | Broken:
    """The main text of a page, without navigation and footer."""
    try:
        from resiliparse.extract.html2text import extract_plain_text  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise missing_extra("resiliparse", "data") from None
    with open_bytes(file) as handle:
        raw = handle.read(UNIT_BYTES + 1)
    if len(raw) > UNIT_BYTES:
        return broken(file.as_posix(), 0, "page_too_long", raw[:100])
    try:
        page = raw.decode(encoding)
    except UnicodeDecodeError as error:
        return broken(file.as_posix(), 0, "bad_encoding", error)
    return record_of(file.as_posix(), 1, extract_plain_text(page, main_content=True, alt_texts=False), "")
