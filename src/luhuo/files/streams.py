"""Opening a file for reading: plain or compressed, as bytes or as lines of text in any encoding.

Compressed bytes are unpacked as they are read, and what comes out is counted: a bomb (a small file that unpacks to
something immense) ends with an error while it is still small.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, BinaryIO, TextIO, cast

import zstandard

from luhuo.files.encodings import AUTO, detect
from luhuo.files.records import UNIT_BYTES

COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")

SHORT = {"tgz": "tar", "tbz": "tar", "tbz2": "tar", "txz": "tar", "tzst": "tar"}
"""Suffixes that stand for a tar and its compression."""
SHORT_COMPRESSION = {".tgz": ".gz", ".tbz": ".bz2", ".tbz2": ".bz2", ".txz": ".xz", ".tzst": ".zst"}

PACKED_CHUNK = 2**11
"""Compressed bytes given to Zstandard at once: it has no bound on what comes out of them, up to 32 kB a byte."""

FREE_BYTES = 256 * 2**20
RATIO = 500
"""A file may unpack to `FREE_BYTES` and `RATIO` times its size: text is seldom packed to less than a fiftieth."""

HEAD_BYTES = 2**18
"""Bytes at the beginning of a file by which its encoding is told."""


class Bomb(ValueError):
    """A file unpacks to more than any text would."""


class Budget:
    """How much may come out of a packed file of so many bytes, all that lies inside of it taken together."""

    def __init__(self, packed: int) -> None:
        self.left = FREE_BYTES + RATIO * packed

    def spend(self, count: int) -> None:
        """Count bytes that came out. Raises `Bomb` when they are too many."""
        self.left -= count
        if self.left < 0:
            raise Bomb("it unpacks to more than any text would")


DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError, Bomb)
"""What reading a cut-off or damaged compressed file raises."""


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


class Counted(io.RawIOBase):
    """The bytes of another stream, counted against a budget if there is one; what it says of damage becomes one of
    `DAMAGED`."""

    def __init__(self, raw: Any, budget: Budget | None) -> None:
        self._raw, self._budget = raw, budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            count = self._raw.readinto(buffer)
        except OSError as error:
            if error.errno is None and not isinstance(error, gzip.BadGzipFile):
                raise EOFError(str(error)) from error  # bz2 has no error of its own for damaged data
            raise
        if self._budget is not None:
            self._budget.spend(count)
        return count


def unpacked(raw: BinaryIO, suffix: str, budget: Budget) -> BinaryIO:
    """The bytes of a stream compressed as a suffix says (".gz", …); the stream itself for any other suffix."""
    suffix = SHORT_COMPRESSION.get(suffix, suffix)
    if suffix not in COMPRESSIONS:
        return raw
    if suffix == ".gz":
        opened: Any = gzip.GzipFile(fileobj=raw, mode="rb")
    elif suffix == ".bz2":
        opened = bz2.BZ2File(raw, "rb")
    elif suffix == ".xz":
        opened = lzma.LZMAFile(raw, "rb")  # noqa: SIM115 (closed with the stream around it)
    else:
        opened = _Zstandard(raw)
    return io.BufferedReader(Counted(opened, budget), 2**18)


@contextmanager
def open_bytes(path: Path, budget: Budget | None = None) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed as they are read. Raises one of `DAMAGED` where they are damaged."""
    with path.open("rb") as raw:
        yield unpacked(raw, path.suffix.lower(), budget or Budget(path.stat().st_size))


@contextmanager
def open_text(path: Path, encoding: str = "utf-8", newline: str = "\n") -> Iterator[TextIO]:
    """The text of a file. Bytes that are not in the encoding become lone surrogates, which `is_unicode` finds."""
    with open_bytes(path) as raw:
        yield as_text(raw, encoding, newline)


def as_text(raw: BinaryIO, encoding: str = "utf-8", newline: str = "\n") -> TextIO:
    """A stream of bytes as text in an encoding; "auto" tells it by the first `HEAD_BYTES`."""
    name = encoding.lower().replace("_", "-")
    if name == AUTO:
        head, raw = read_head(raw)
        name = detect(head, whole=len(head) < HEAD_BYTES)
    name = "utf-8-sig" if name in ("utf-8", "utf8") else name
    return io.TextIOWrapper(raw, encoding=name, errors="surrogateescape", newline=newline)


class _Again(io.RawIOBase):
    """Bytes that were read from a stream, and then the rest of it."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._head[: len(buffer)] or self._rest.read(len(buffer))
        self._head = self._head[len(block) :] if self._head else b""
        buffer[: len(block)] = block
        return len(block)


def read_head(raw: BinaryIO, count: int = HEAD_BYTES) -> tuple[bytes, BinaryIO]:
    """The first bytes of a stream, and a stream that begins with them."""
    head = raw.read(count)
    return head, cast(BinaryIO, io.BufferedReader(_Again(head, raw), 2**18))


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


def format_of(path: PurePath) -> str:
    """The format a file name announces: its last suffix below a compression, lower case, without the dot."""
    name = PurePath(path.name.lower())
    while name.suffix in COMPRESSIONS:
        name = name.with_suffix("")
    kind = name.suffix.lstrip(".")
    return SHORT.get(kind, kind)
