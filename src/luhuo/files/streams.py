"""Opening a file for reading: plain, gzip or Zstandard, as bytes or as lines of text in any encoding."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import zstandard

from luhuo.files.records import UNIT_BYTES

COMPRESSIONS = (".gz", ".zst")


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed as they are read."""
    if path.suffix == ".gz":
        with gzip.open(path, "rb") as handle:
            yield cast(BinaryIO, handle)
    elif path.suffix == ".zst":
        with (
            path.open("rb") as raw,
            zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as handle,
        ):
            yield cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, handle), 2**20))
    else:
        with path.open("rb") as handle:
            yield handle


@contextmanager
def open_text(path: Path, encoding: str = "utf-8", newline: str = "\n") -> Iterator[TextIO]:
    """The text of a file. Bytes that are not in the encoding become lone surrogates, which `is_unicode` finds."""
    with open_bytes(path) as raw:
        name = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
        yield io.TextIOWrapper(raw, encoding=name, errors="surrogateescape", newline=newline)


def lines(handle: TextIO) -> Iterator[tuple[int, str, bool]]:
    """Yield (number from 1, line without its end, whole). A line over the bound is cut and marked as not whole."""
    number = 0
    while line := handle.readline(UNIT_BYTES):
        number += 1
        whole = len(line) < UNIT_BYTES or line.endswith("\n")
        yield number, line.rstrip("\r\n"), whole
        while not whole and (rest := handle.readline(UNIT_BYTES)):
            if rest.endswith("\n"):
                break


def format_of(path: Path) -> str:
    """The format a file name announces: its last suffix below a compression, lower case, without the dot."""
    name = Path(path.name.lower())
    while name.suffix in COMPRESSIONS:
        name = name.with_suffix("")
    return name.suffix.lstrip(".")
