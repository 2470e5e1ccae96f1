"""Sources divided into work units: groups of small files, whole files, or ranges of lines of a large one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from luhuo.corpus.factory.executors import Unit
from luhuo.files.encodings import detect
from luhuo.files.readers import list_files
from luhuo.files.references import Resolved
from luhuo.files.remote import list_remote
from luhuo.files.streams import HEAD_BYTES

if TYPE_CHECKING:
    from luhuo.corpus.factory.stages import RawSource

FILES = 2_000
"""Files of a unit at most."""
DIVISIBLE = (".jsonl", ".ndjson")
"""Files whose lines are records: they may be entered anywhere."""


def plan(sources: Sequence[RawSource], resolved: Sequence[Resolved | None], unit_bytes: int) -> list[Unit]:
    """The units of all sources. They depend on names and sizes of the files, not on the machine. A source that is
    None is a data set at a hub: its files are only listed, each unit fetches its own."""
    units: list[Unit] = []
    for number, (source, found) in enumerate(zip(sources, resolved, strict=True)):
        if found is None:
            root, files = "", [(one.reference, one.size or unit_bytes) for one in list_remote(source.path)]
        else:
            root = (found.path if found.path.is_dir() else found.path.parent).as_posix()
            files = [(file.as_posix(), file.stat().st_size) for file in list_files(found.path)]
        for index, (parts, size) in enumerate(_groups(files, unit_bytes, divided=found is not None)):
            payload = {"source": number, "root": root, "parts": parts}
            units.append(Unit(f"{source.name}-{index:05d}", size, payload))
    return units


def _groups(
    files: Sequence[tuple[str, int]], unit_bytes: int, *, divided: bool
) -> Iterator[tuple[list[list[object]], int]]:
    """([[file, start, end], …], bytes): neighbours together up to the size of a unit; end -1 is the whole file."""
    held: list[list[object]] = []
    size = 0
    for file, length in files:
        if held and (size + length > unit_bytes or len(held) >= FILES):
            yield held, size
            held, size = [], 0
        if divided and file.endswith(DIVISIBLE) and length > 2 * unit_bytes and _has_lines(file):
            for start in range(0, length, unit_bytes):
                end = min(start + unit_bytes, length)
                yield [[file, start, end]], end - start
            continue
        held.append([file, 0, -1])
        size += length
    if held:
        yield held, size


def _has_lines(file: str) -> bool:
    """Whether a byte 10 is the end of a line in this file: in UTF-16 it can be half of a character."""
    with Path(file).open("rb") as handle:
        return not detect(handle.read(HEAD_BYTES), whole=False).startswith(("utf-16", "utf-32"))


def lines_between(handle: BinaryIO, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(byte offset, line) of the lines that begin in [start, end) of a file."""
    handle.seek(max(start - 1, 0))
    if start:
        handle.readline()  # to the end of the line that began before
    while (place := handle.tell()) < end and (line := handle.readline()):
        yield place, line
