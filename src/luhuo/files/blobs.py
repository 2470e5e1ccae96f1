"""Something to read with a name: a file on the disk, or a member of an archive as it comes by."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from luhuo.files.encodings import detect
from luhuo.files.records import UNIT_BYTES
from luhuo.files.streams import COMPRESSIONS, Bomb, Budget, format_of, open_bytes

SPOOLED_BYTES = 8 * 2**20
"""A member that has to be read in any order is kept in memory up to this size, above it in a temporary file."""

SPOOL_BYTES = 2 * 2**30
"""The largest such member."""

CHUNK = 2**20


@dataclass(frozen=True)
class Blob:
    """Bytes with a name. `open` may be called once for a member of an archive, any number of times for a file."""

    name: str
    """What records say they come from: the path; of a member, the archive's path and its own below it."""
    kind: str
    """The format that the name announces."""
    open: Callable[[], AbstractContextManager[BinaryIO]]
    """The bytes, unpacked where the name ends in a compression."""
    budget: Budget
    """How much may still be unpacked out of the file on the disk."""
    path: Path | None = None
    """The file that holds just these bytes, where there is one."""
    depth: int = 0
    """Archives around it."""

    @classmethod
    def of(cls, file: Path) -> Blob:
        """A file on the disk."""
        budget = Budget(file.stat().st_size)
        plain = file.suffix.lower() not in (*COMPRESSIONS, ".tgz", ".tbz", ".tbz2", ".txz", ".tzst")
        return cls(
            readable(file.as_posix()),
            format_of(file),
            lambda: open_bytes(file, budget),
            budget,
            file if plain else None,
        )


def readable(name: str) -> str:
    """A file's name as Unicode: bytes in it that are not UTF-8 are told by what they look like."""
    if not any("\udc80" <= c <= "\udcff" for c in name):
        return name
    raw = name.encode("utf-8", "surrogateescape")
    return raw.decode(detect(raw), "replace")


def read_whole(raw: IO[bytes]) -> bytes | None:
    """All bytes of a stream, or None if there are more than `UNIT_BYTES`."""
    pieces, size = [], 0
    while block := raw.read(CHUNK):  # asked for all at once, a stream sets that much memory aside
        pieces.append(block)
        size += len(block)
        if size > UNIT_BYTES:
            return None
    return b"".join(pieces)


@contextmanager
def seekable(blob: Blob) -> Iterator[IO[bytes]]:
    """The bytes in any order: of the file itself, else of a copy in memory or, where it is large, on the disk.

    Raises `Bomb` if there are more than `SPOOL_BYTES`.
    """
    if blob.path is not None:
        with blob.path.open("rb") as handle:
            yield handle
        return
    with tempfile.SpooledTemporaryFile(SPOOLED_BYTES) as copy, blob.open() as raw:
        while block := raw.read(CHUNK):
            copy.write(block)
            if copy.tell() > SPOOL_BYTES:
                raise Bomb(f"larger than {SPOOL_BYTES:,} bytes")
        copy.seek(0)
        yield copy
