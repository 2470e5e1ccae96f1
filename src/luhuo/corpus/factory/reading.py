"""The records of a work unit, one after another, with a number for each step that could end the process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from luhuo.corpus.factory.plan import lines_between
from luhuo.corpus.factory.watch import Watch
from luhuo.files.blobs import readable
from luhuo.files.encodings import AUTO, detect
from luhuo.files.readers import read_file, record_of
from luhuo.files.records import Broken, Record, broken, is_unicode
from luhuo.files.remote import fetch, inner_name, is_data_set
from luhuo.files.streams import HEAD_BYTES


@dataclass(frozen=True)
class Read:
    """What a reader yielded, and the number under which it is processed."""

    processing: int
    content: Record | Broken


def read_unit(source: dict[str, Any], parts: Sequence[Sequence[Any]], watch: Watch) -> Iterator[Read]:
    """The records of the files of a unit. A file whose reading ended the process before is left from there on.

    The step of reading record n has the number 2n, that of processing it 2n + 1.
    """
    number = 0
    for file, start, end in parts:
        rows = _file(source, file) if end < 0 else _range(source, Path(file), start, end)
        while True:
            if watch.careful:
                watch.at(2 * number)
            if 2 * number in watch.skips:
                yield Read(2 * number + 1, broken(file, 0, "reader_ended"))
                number += 1
                break
            row = next(rows, None)
            if row is not None:
                yield Read(2 * number + 1, row)
            number += 1  # the end of a file is a step of its own: the next file begins with another number
            if row is None:
                break


def _file(source: dict[str, Any], file: str) -> Iterator[Record | Broken]:
    """The records of a file; of a data set at a hub it is fetched now, and named by its path in the data set."""
    local = fetch(file) if is_data_set(file) else Path(file)
    for row in read_file(local, text_field=source["text_field"], encoding=source["encoding"]):
        yield (
            replace(row, file=inner_name(file) + row.file.removeprefix(local.as_posix())) if is_data_set(file) else row
        )


def _range(source: dict[str, Any], file: Path, start: int, end: int) -> Iterator[Record | Broken]:
    """The lines of JSON that begin in a range of bytes; their number is their place in the file."""
    name = readable(file.as_posix())
    with file.open("rb") as handle:
        encoding = source["encoding"]
        if encoding.lower() == AUTO:
            encoding = detect(handle.read(HEAD_BYTES), whole=False)
        for place, line in lines_between(handle, start, end):
            text = line.decode(encoding, "surrogateescape").rstrip("\r\n")
            if not text.strip():
                continue
            if not is_unicode(text):
                yield broken(name, place, "bad_encoding", text)
                continue
            try:
                value = json.loads(text)
            except (json.JSONDecodeError, RecursionError):
                yield broken(name, place, "bad_json", text)
                continue
            yield record_of(name, place, value, source["text_field"])
