"""Rows of structured files, one at a time: JSON lists, JSON lines, CSV, TSV and Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from luhuo.core.errors import missing_extra
from luhuo.files.blobs import Blob, seekable
from luhuo.files.records import UNIT_BYTES, Broken, broken, is_unicode
from luhuo.files.streams import as_text, lines

CHUNK = 2**20
BLANK = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Row:
    """One value of a structured file; `line` is its line, or its number from 1 where lines mean nothing."""

    line: int
    value: Any


def read_rows(
    path: str | Path, encoding: str = "utf-8", *, columns: Sequence[str] | None = None
) -> Iterator[Row | Broken]:
    """The rows of one structured file, by its suffix. `columns` are those of a CSV file without a header."""
    yield from blob_rows(Blob.of(Path(path)), encoding, columns)


def blob_rows(blob: Blob, encoding: str = "utf-8", columns: Sequence[str] | None = None) -> Iterator[Row | Broken]:
    """The rows of a file or of a member of an archive."""
    if blob.kind == "parquet":
        yield from _parquet(blob)
        return
    with blob.open() as raw:
        handle = as_text(raw, encoding, "" if blob.kind in ("csv", "tsv") else "\n")
        if blob.kind == "json":
            yield from _json(handle, blob.name)
        elif blob.kind in ("csv", "tsv"):
            yield from _csv(handle, blob.name, "\t" if blob.kind == "tsv" else ",", columns)
        else:
            yield from _json_lines(handle, blob.name)


def _json_lines(handle: TextIO, name: str) -> Iterator[Row | Broken]:
    for number, line, whole in lines(handle):
        if not whole:
            yield broken(name, number, "line_too_long", line[:1000])
        elif not is_unicode(line):
            yield broken(name, number, "bad_encoding", line)
        elif not line.strip():
            yield broken(name, number, "empty")
        else:
            try:
                yield Row(number, json.loads(line))
            except (json.JSONDecodeError, RecursionError):
                yield broken(name, number, "bad_json", line)


def _json(handle: TextIO, name: str) -> Iterator[Row | Broken]:
    """The elements of a JSON list, decoded as they arrive; any other value is one row."""
    decoder = json.JSONDecoder()
    buffer, number, inside = "", 0, False
    limit = CHUNK
    while chunk := handle.read(limit):
        buffer = buffer.lstrip(BLANK) + chunk if not number else buffer + chunk
        if not number and not inside and buffer.lstrip(BLANK).startswith("["):
            buffer, inside = buffer.lstrip(BLANK)[1:], True
        place = 0
        while inside:
            place = _skip(buffer, place, BLANK + ",")
            try:
                value, end = decoder.raw_decode(buffer, place)
            except (json.JSONDecodeError, RecursionError):
                break
            after = _skip(buffer, end, BLANK)
            if after == len(buffer):  # a number could go on in the next chunk
                break
            number += 1
            yield Row(number, value)
            place = after
        buffer = buffer[place:]
        limit = max(CHUNK, len(buffer))  # doubling keeps the work linear in the length of one element
        if len(buffer) > UNIT_BYTES:
            yield broken(name, number + 1, "element_too_long", buffer[:1000])
            return
    if not inside and buffer.strip(BLANK):
        try:
            yield Row(1, json.loads(buffer))
        except (json.JSONDecodeError, RecursionError):
            yield broken(name, 1, "bad_json", buffer)
    elif inside and buffer.strip(BLANK) != "]":
        yield broken(name, number + 1, "bad_json", buffer)
    elif number == 0:
        yield broken(name, 0, "empty")


def _skip(text: str, place: int, characters: str) -> int:
    while place < len(text) and text[place] in characters:
        place += 1
    return place


def _csv(handle: TextIO, name: str, delimiter: str, header: Sequence[str] | None = None) -> Iterator[Row | Broken]:
    csv.field_size_limit(UNIT_BYTES)
    reader = csv.reader(handle, delimiter=delimiter)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield broken(name, reader.line_num, "bad_csv", error)
            continue
        if row is None:
            break
        if header is None:
            header = row
        elif not row:
            continue  # the csv format itself calls an empty line no row
        elif len(row) != len(header):
            yield broken(name, reader.line_num, "wrong_columns", delimiter.join(row))
        elif not is_unicode("".join(row)):
            yield broken(name, reader.line_num, "bad_encoding", delimiter.join(row))
        else:
            yield Row(reader.line_num, dict(zip(header, row, strict=True)))
    if header is None:
        yield broken(name, 0, "empty")


def _parquet(blob: Blob) -> Iterator[Row | Broken]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise missing_extra("pyarrow", "data") from None
    number = 0
    try:
        with seekable(blob) as handle, pyarrow.parquet.ParquetFile(handle) as table:
            for batch in table.iter_batches(batch_size=256):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(number, value)
    except (pyarrow.ArrowException, OSError) as error:
        yield broken(blob.name, number + 1, "bad_parquet", error)
