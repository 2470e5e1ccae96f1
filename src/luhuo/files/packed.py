"""Folders packed into one file (zip, tar and compressed tars): members as blobs, one after the other.

Nothing is unpacked to the disk but members whose format has to be read in any order, and those into temporary files
without a name: what a member's path says can lead nowhere.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from luhuo.files import zipped
from luhuo.files.blobs import Blob, readable
from luhuo.files.records import Broken, broken
from luhuo.files.streams import DAMAGED, Bomb, Counted, format_of, unpacked

ARCHIVES = ("zip", "tar")

DEPTH = 3
"""Archives inside of archives that are opened."""

HEADER_BYTES = 2**20
"""The longest extended header of a tar: the standard library reads it at once."""


class _Member(tarfile.TarInfo):
    """A header of a tar that may not be so long as to fill the memory."""

    def _bounded(self) -> None:
        if self.size > HEADER_BYTES:
            raise tarfile.ReadError("a header that is too long")

    def _proc_pax(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        self._bounded()
        return super()._proc_pax(tar)  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]

    def _proc_gnulong(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        self._bounded()
        return super()._proc_gnulong(tar)  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def members(blob: Blob) -> Iterator[Blob | Broken]:
    """The files of an archive in the order they lie in it; each has to be read before the next is asked for.

    Hidden files are left out, as in folders. Raises one of `DAMAGED` where the archive unpacks to too much.
    """
    if blob.depth >= DEPTH:
        yield broken(blob.name, 0, "nested_too_deep")
        return
    found = False
    for member in _zip(blob) if blob.kind == "zip" else _tar(blob):
        found = True
        yield member
    if not found:
        yield broken(blob.name, 0, "empty")


def _child(blob: Blob, name: str) -> Blob:
    inside = PurePosixPath(name.replace("\\", "/"))
    return replace(blob, name=f"{blob.name}/{inside}", kind=format_of(inside), path=None, depth=blob.depth + 1)


def _hidden(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return any(part.startswith(".") and part not in (".", "..") for part in parts) or "__MACOSX" in parts


def _zip(blob: Blob) -> Iterator[Blob | Broken]:
    try:
        with zipped.opened(blob) as pack:
            infos = [info for info in pack.infolist() if not info.is_dir()]
            for info, name in zip(infos, zipped.names(infos), strict=True):
                if _hidden(name):
                    continue
                child = _child(blob, name)

                @contextmanager
                def opened(info=info, name=name) -> Iterator[BinaryIO]:
                    with zipped.member(pack, info, blob.budget) as raw:
                        yield unpacked(raw, PurePosixPath(name).suffix.lower(), blob.budget)

                yield replace(child, open=opened)
    except zipfile.BadZipFile as error:
        yield broken(blob.name, 0, "bad_zip", error)


def _tar(blob: Blob) -> Iterator[Blob | Broken]:
    with blob.open() as raw:
        try:
            with tarfile.open(fileobj=raw, mode="r|", tarinfo=_Member, errors="surrogateescape") as pack:
                for info in pack:
                    name = readable(info.name)
                    if not info.isreg() or _hidden(name):
                        continue
                    # What tarfile gives lacks half of a stream's methods; it was counted when it was unpacked.
                    source = cast(BinaryIO, io.BufferedReader(Counted(pack.extractfile(info), None), 2**18))
                    suffix = PurePosixPath(name).suffix.lower()
                    yield replace(
                        _child(blob, name), open=lambda s=source, x=suffix: nullcontext(unpacked(s, x, blob.budget))
                    )
        except DAMAGED as error:
            yield broken(blob.name, 0, "bomb" if isinstance(error, Bomb) else "bad_compression", error)
        except tarfile.TarError as error:
            yield broken(blob.name, 0, "bad_tar", error)
