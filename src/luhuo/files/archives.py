"""Unpacking chosen members of wheels and source archives: no links, no path outside, no more than a bound."""

from __future__ import annotations

import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

UNPACKED_BYTES = 4 * 2**30
"""Bytes that one reference may unpack; counted while writing, since an archive can lie about sizes."""

CHUNK = 2**20
# zipfile and tarfile have no error in common: a damaged archive may end in any of these.
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    TypeError,
    ValueError,
    RuntimeError,  # encrypted, or compressed in a way that is not known
    LookupError,
    OverflowError,
    MemoryError,
)


def unpack(archive: Path, inner: str, target: Path) -> None:
    """Write the members that match `inner` under `target`, keeping their paths.

    `inner` is a file, a folder or a glob (`*` and `?` stay within a folder, `**` does not); empty means everything.
    The top folder of a source archive is not part of the path. Raises `LuhuoError` if nothing matches.
    """
    written = 0
    names = []
    wanted = _pattern(inner)
    try:
        for name, source in _members(archive, wanted):
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as handle:
                while block := source.read(CHUNK):
                    written += len(block)
                    if written > UNPACKED_BYTES:
                        raise LuhuoError(
                            tr("The archive unpacks to too much.", "归档解开后太大。"),
                            expected=f"<= {UNPACKED_BYTES:,}",
                            where=archive.name,
                        )
                    handle.write(block)
            names.append(name)
        if not names:
            raise LuhuoError(
                tr("The archive has no such file.", "归档里没有这个文件。"),
                expected=inner,
                found=", ".join(_sample(archive)) + " …",
                where=archive.name,
            )
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the disk, not the archive
        raise LuhuoError(
            tr("The archive cannot be read.", "无法读取归档。"),
            found=f"{type(error).__name__}: {error}",
            where=archive.name,
        ) from error


def _members(archive: Path, wanted: re.Pattern[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """(path, stream) of the regular files that match."""
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as pack:
            for info in pack.infolist():
                name = _path(archive, info.filename)
                if not info.is_dir() and wanted.fullmatch(name):
                    _refuse_unsafe(name, archive, link=(info.external_attr >> 16) & 0o170000 == 0o120000)
                    with pack.open(info) as source:
                        yield name, source
        return
    with tarfile.open(archive, "r|*") as pack:
        for info in pack:
            name = _path(archive, info.name)
            if not info.isdir() and wanted.fullmatch(name):
                _refuse_unsafe(name, archive, link=not info.isreg())
                source = pack.extractfile(info)
                if source is not None:
                    yield name, source


def _path(archive: Path, name: str) -> str:
    """The path inside the package: as it stands in a wheel, below the top folder in a source archive."""
    return name if archive.suffix == ".whl" else name.removeprefix("./").partition("/")[2]


def _refuse_unsafe(name: str, archive: Path, *, link: bool) -> None:
    path = PurePosixPath(name)
    if link or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
        raise LuhuoError(
            tr("The archive holds a link or a path that leads outside.", "归档里有链接或指向外部的路径。"),
            found=name,
            where=archive.name,
        )


def _pattern(inner: str) -> re.Pattern[str]:
    """`inner` as a regular expression: itself as a file or a folder, or a glob."""
    if not inner:
        return re.compile(r".+", re.S)
    marks = {"**/": r"(?:.*/)?", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", inner)
    return re.compile("".join(marks.get(p, re.escape(p)) for p in parts) + r"(?:/.*)?", re.S)


def _sample(archive: Path, count: int = 8) -> list[str]:
    """The first few names, to help the person find the right one."""
    names = []
    for name, _ in _members(archive, re.compile(r".+", re.S)):
        names.append(name)
        if len(names) == count:
            break
    return names
