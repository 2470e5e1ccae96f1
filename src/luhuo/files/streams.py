"""Opening a file for reading: plain, gzip or Zstandard, as bytes or as lines of text in any encoding."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

import zstandard

from luhuo.files.records import UNIT_BYTES

COMPRESSIONS = (".gz", ".zst")

PACKED_CHUNK = 2**16
"""Compressed bytes taken at once."""


class _Zstandard(io.RawIOBase):
    """Decompressed bytes of all frames. A file that ends within a frame is an error: the library's own reader takes
    it for the end, and what was cut off would be lost without a word."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._input = self._output = b""
        self._started = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._output:
            self._input = self._input or self._raw.read(PACKED_CHUNK)
            if not self._input:
                if self._started and not self._frame.eof:
                    raise EOFError("the file ends within a Zstandard frame")
                return 0
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._started = True
            self._output = self._frame.decompress(self._input)
            self._input = self._frame.unused_data if self._frame.eof else b""
        count = min(len(buffer), len(self._output))
        buffer[:count] = self._output[:count]
        self._output = self._output[count:]
        return count


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed as they are read."""
    if path.suffix == ".gz":
        with gzip.open(path, "rb") as handle:
            yield cast(BinaryIO, handle)
    elif path.suffix == ".zst":
        with path.open("rb") as raw:
            yield io.BufferedReader(_Zstandard(raw), 2**20)
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
