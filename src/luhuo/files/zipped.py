"""Zip containers whose members are read in place: what a .zip, .docx and .epub have in common."""

from __future__ import annotations

import errno
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from luhuo.core.errors import LuhuoError
from luhuo.files.blobs import Blob, read_whole, seekable
from luhuo.files.encodings import detect
from luhuo.files.safe_xml import BadXml
from luhuo.files.streams import Bomb, Budget, Counted

DAMAGE = (
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,  # compressed in a way the standard library does not know
    RuntimeError,
    ValueError,
    LookupError,
    OverflowError,
)
"""What the standard library raises for damaged zip files, besides its own error and `OSError`."""

ENCRYPTED = 0x1
UTF8_NAME = 0x800


class Encrypted(ValueError):
    """The content is encrypted."""


@contextmanager
def one_error() -> Iterator[None]:
    """Whatever damage comes to, as `zipfile.BadZipFile`; bombs, locks, bad XML and a full disk stay what they are."""
    try:
        yield
    except (Bomb, Encrypted, BadXml, LuhuoError):
        raise
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # a place before the beginning of the file is damage too
            raise
        raise zipfile.BadZipFile(str(error)) from error
    except DAMAGE as error:
        raise zipfile.BadZipFile(f"{type(error).__name__}: {error}") from error


@contextmanager
def opened(blob: Blob) -> Iterator[zipfile.ZipFile]:
    """The zip file of a blob. Raises `zipfile.BadZipFile`."""
    with one_error(), seekable(blob) as handle, zipfile.ZipFile(cast(BinaryIO, handle)) as pack:
        yield pack


@contextmanager
def member(pack: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget) -> Iterator[BinaryIO]:
    """The bytes of one member. Raises `Encrypted`, `Bomb` or `zipfile.BadZipFile`."""
    if info.flag_bits & ENCRYPTED:
        raise Encrypted(info.filename)
    with one_error(), pack.open(info) as raw:
        yield io.BufferedReader(Counted(raw, budget), 2**18)


def read_member(pack: zipfile.ZipFile, name: str, budget: Budget) -> bytes | None:
    """A whole member; None if there is none of this name or it is larger than what is held in memory."""
    try:
        info = pack.getinfo(name)
    except KeyError:
        return None
    with member(pack, info, budget) as raw:
        return read_whole(raw)


def names(infos: list[zipfile.ZipInfo]) -> list[str]:
    """The names of members in Unicode. Old programs write them in the encoding of their country and do not say which:
    it is told by all such names together."""
    raw = [b"" if info.flag_bits & UTF8_NAME else _raw(info.filename) for info in infos]
    strange = [name for name in raw if not name.isascii()]
    encoding = detect(b"\n".join(strange)) if strange else "utf-8"
    return [
        name.decode(encoding, "replace") if name and not name.isascii() else info.filename
        for name, info in zip(raw, infos, strict=True)
    ]


def _raw(name: str) -> bytes:
    try:
        return name.encode("cp437")
    except UnicodeEncodeError:
        return b""
