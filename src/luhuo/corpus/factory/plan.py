"""Sources divided into work units: groups of small files, whole files, or ranges of lines of a large one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from luhuo.corpus.factory.executors import Unit
from luhuo.files.readers import list_files
from luhuo.files.references import Resolved

if TYPE_CHECKING:
    from luhuo.corpus.factory.stages import RawSource

UNIT_BYTES = 16_000_000
"""Input of a unit: enough that starting it costs nothing, little enough that a lost one does not either."""
FILES = 2_000
"""Files of a unit at most."""
DIVISIBLE = (".jsonl", ".ndjson")
"""Files whose lines are records: they may be entered anywhere."""


def plan(sources: Sequence[RawSource], resolved: Sequence[Resolved], unit_bytes: int = UNIT_BYTES) -> list[Unit]:
    """The units of all sources. They depend on names and sizes of the files, not on the machine."""
    units: list[Unit] = []
    for number, (source, found) in enumerate(zip(sources, resolved, strict=True)):
        root = found.path if found.path.is_dir() else found.path.parent
        for index, (parts, size) in enumerate(_groups(list_files(found.path), unit_bytes)):
            payload = {"source": number, "root": root.as_posix(), "parts": parts}
            units.append(Unit(f"{source.name}-{index:05d}", size, payload))
    return units


def _groups(files: Sequence[Path], unit_bytes: int) -> Iterator[tuple[list[list[object]], int]]:
    """([[file, start, end], …], bytes): neighbours together up to the size of a unit; end -1 is the whole file."""
    held: list[list[object]] = []
    size = 0
    for file in files:
        length = file.stat().st_size
        if held and (size + length > unit_bytes or len(held) >= FILES):
            yield held, size
            held, size = [], 0
        if file.suffix in DIVISIBLE and length > 2 * unit_bytes:
            for start in range(0, length, unit_bytes):
                end = min(start + unit_bytes, length)
                yield [[file.as_posix(), start, end]], end - start
            continue
        held.append([file.as_posix(), 0, -1])
        size += length
    if held:
        yield held, size


def lines_between(handle: BinaryIO, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(byte offset, line) of the lines that begin in [start, end) of a file."""
    handle.seek(max(start - 1, 0))
    if start:
        handle.readline()  # to the end of the line that began before
    while (place := handle.tell()) < end and (line := handle.readline()):
        yield place, line
