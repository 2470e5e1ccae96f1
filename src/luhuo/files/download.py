"""Downloading one file: continued where it was cut off, checked against its digest, whole under its name or not there.

The bytes collect in a hidden `.NAME.part` beside the target, with the server's validator (ETag, RFC 9110 section
8.8) in `.NAME.part.json`: a range is asked for only while the file is still the one that was begun.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from luhuo.core.atomic import write_json
from luhuo.core.digest import file_digest
from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.language import tr
from luhuo.core.progress import Progress
from luhuo.files import transport

CHUNK = 2**20
FILE_BYTES = 4 * 2**30
"""No file of which the size was not known before is larger than this."""

IDLE_TRIES = 3
"""Tries in a row without a single new byte before a download is given up."""


@dataclass(frozen=True)
class Wanted:
    """One file to fetch. The digest decides whether it is right; without one, the size in bytes does."""

    url: str
    target: Path
    sha256: str | None = None
    size: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class OtherFileError(LuhuoError):
    """The file came whole and is not the one that was asked for. `digest` is what came."""

    def __init__(self, wanted: Wanted, digest: str) -> None:
        self.digest = digest
        super().__init__(
            tr("The downloaded file is not the one that was asked for.", "下载到的文件不是所要的那一个。"),
            expected=f"sha256 {wanted.sha256}",
            found=f"sha256 {digest}",
            where=transport.public(wanted.url),
            fix=tr(
                "Nothing was kept. The server or something between changed it; check the address or the mirror.",
                "没有保留任何内容。服务器或中间环节改动了它；请检查地址或镜像。",
            ),
        )


def download(wanted: Wanted, progress: Progress | None = None) -> Path:
    """Fetch a file, continuing an earlier try; the target, which stands there only when it is whole and right.

    Another process at the same file is waited for. Raises `OtherFileError`, and `RunFailed` if the server refuses or
    stops delivering; what has arrived is kept for the next try. A full disk raises `OSError`.
    """
    target = wanted.target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(target.with_name(f".{target.name}.lock"))):
        if not _is_there(wanted):
            if progress is None:
                name = urllib.parse.unquote(urllib.parse.urlsplit(wanted.url).path.rpartition("/")[2])
                with Progress(name, unit="MB") as own:
                    _fetch(wanted, own)
            else:
                _fetch(wanted, progress)
    return target


def _is_there(wanted: Wanted) -> bool:
    """Whether the target is already what is wanted; a file that is not is removed."""
    if not wanted.target.is_file():
        return False
    if wanted.sha256 is not None and file_digest(wanted.target) == wanted.sha256:
        return True
    if wanted.sha256 is None and wanted.size == wanted.target.stat().st_size:
        return True
    wanted.target.unlink()
    return False


class _Part:
    """The bytes that have arrived, and what the server said the file is."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f".{target.name}.part")
        self.note = target.with_name(f".{target.name}.part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def validator(self) -> str | None:
        """A strong ETag or a modification date; a weak ETag says nothing about ranges."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return note.get("validator") if isinstance(note, dict) else None

    def begin(self, validator: str | None) -> None:
        write_json(self.note, {"validator": validator})

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def _fetch(wanted: Wanted, progress: Progress) -> None:
    part = _Part(wanted.target)
    continued = part.size > 0
    _receive(wanted, part, progress)
    found = file_digest(part.path)
    if wanted.sha256 not in (None, found) and continued:  # the old part was of another file: from the beginning
        _start_over(part, progress)
        _receive(wanted, part, progress)
        found = file_digest(part.path)
    if wanted.sha256 not in (None, found):
        part.drop()
        raise OtherFileError(wanted, found)
    with part.path.open("rb") as handle:
        os.fsync(handle.fileno())
    part.path.replace(wanted.target)
    part.note.unlink(missing_ok=True)


def _receive(wanted: Wanted, part: _Part, progress: Progress) -> None:
    """Fill the part until it is whole. Raises `RunFailed` after a few tries that came no further than the best."""
    idle, best = 0, part.size
    if part.size:
        progress.start_from(progress.done + part.size / 1e6)
    while True:
        try:
            _one_answer(wanted, part, progress)
            return
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            idle, best = (0, part.size) if part.size > best else (idle + 1, best)
            if idle >= IDLE_TRIES or not transport.passing(error):
                raise _failed(wanted, part, error) from error
            time.sleep(transport.PAUSE_S * idle)


def _one_answer(wanted: Wanted, part: _Part, progress: Progress) -> None:
    """Ask for what is missing and append it; start over where the server sends the whole file instead."""
    start, validator = part.size, part.validator()
    if start and validator is None and wanted.sha256 is None:
        start = _start_over(part, progress)  # nothing would tell a mixture of two files
    if start and start == wanted.size:
        return
    headers = {"Accept": "*/*", "Accept-Encoding": "identity", **wanted.headers}
    if start:
        headers |= {"Range": f"bytes={start}-"} | ({"If-Range": validator} if validator else {})
    try:
        response = transport.open_url(wanted.url, headers)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return  # nothing is missing: an earlier run ended before it could say so
        _start_over(part, progress)
        raise ConnectionResetError(tr("the server has another file now", "服务器上的文件已变")) from error
    with response:
        total = _total(response, start)
        if start and total is None:
            start = _start_over(part, progress)
        if not start:
            part.begin(_validator(response.headers))
            length = response.headers.get("Content-Length")
            total = int(length) if length and length.isdigit() else None
        _check_size(wanted, part, total)
        if progress.total is None and total:
            progress.expect(total / 1e6)
        _append(wanted, part, response, progress)
    _check_whole(wanted, part, total)


def _start_over(part: _Part, progress: Progress) -> int:
    progress.advance(-part.size / 1e6)
    part.drop()
    return 0


def _total(response: Any, start: int) -> int | None:
    """The size of the whole file, if the answer is the range from `start` on; None if it is anything else."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range") or "")
    if response.status != 206 or not match or int(match[1]) != start:
        return None
    return int(match[2]) if match[2] != "*" else start + int(response.headers.get("Content-Length") or 0)


def _validator(headers: Any) -> str | None:
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _check_size(wanted: Wanted, part: _Part, total: int | None) -> None:
    """Refuse what is too large or of another size than announced, and a disk it does not fit on, before writing."""
    limit = max(wanted.size or 0, FILE_BYTES)
    exact = wanted.size if wanted.sha256 is None else None
    if total is not None and (total > limit or (exact is not None and total != exact)):
        part.drop()
        raise LuhuoError(
            tr("The file has not the size it should have.", "文件大小与预期不符。"),
            expected=f"<= {limit:,} bytes" if exact is None else f"{exact:,} bytes",
            found=f"{total:,} bytes",
            where=transport.public(wanted.url),
        )
    missing = (total or wanted.size or 0) - part.size
    if missing > shutil.disk_usage(wanted.target.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(wanted.target))


def _append(wanted: Wanted, part: _Part, response: Any, progress: Progress) -> None:
    limit = max(wanted.size or 0, FILE_BYTES)
    with part.path.open("ab") as handle:
        while block := response.read(CHUNK):
            handle.write(block)
            progress.advance(len(block) / 1e6)
            if handle.tell() > limit:
                handle.close()
                part.drop()
                raise LuhuoError(
                    tr("The file is too large to download.", "文件太大，拒绝下载。"),
                    expected=f"<= {limit:,} bytes",
                    where=transport.public(wanted.url),
                )


def _check_whole(wanted: Wanted, part: _Part, total: int | None) -> None:
    size = total if total is not None else wanted.size
    if size is not None and part.size != size:
        done = part.size
        if done > size:
            part.drop()
        raise ConnectionResetError(
            tr(f"connection closed after {done:,} of {size:,} bytes", f"连接中断：{done:,}/{size:,} 字节")
        )


def _failed(wanted: Wanted, part: _Part, error: OSError | http.client.HTTPException) -> RunFailed:
    fix = tr("Check the network and run the same command again", "检查网络后重新运行同一命令")
    if part.size:
        fix += tr(f"; it continues after {part.size / 1e6:,.1f} MB", f"；会从 {part.size / 1e6:,.1f} MB 处继续")
    return RunFailed(
        tr("The download failed.", "下载失败。"),
        found=str(error) or type(error).__name__,
        where=transport.public(wanted.url),
        fix=fix + tr(".", "。"),
    )
