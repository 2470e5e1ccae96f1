"""ModelScope through its plain file API: list a repository, fetch each file against the digest in the list.

Its own client is not used: it keeps its login in a pickled cookie jar and brings a dozen packages, and this takes two
kinds of requests. `MODELSCOPE_ENDPOINT` (or `MODELSCOPE_DOMAIN`) names a mirror, `MODELSCOPE_API_TOKEN` a login.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import urllib.error
import urllib.parse
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from luhuo.core.atomic import write_json
from luhuo.core.digest import value_digest
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import Progress
from luhuo.files import aliases, hub, transport, verified
from luhuo.files.cache import cache_folder
from luhuo.files.download import Wanted, download

DOMAIN = "www.modelscope.cn"
REVISION = "master"
LISTED = 3000
"""The server cuts a list of a model's files off at this many entries without saying so."""

PAGE = 200
"""Entries of a data set's list asked for at once."""


@dataclass(frozen=True)
class Entry:
    """One file of a repository."""

    path: str
    size: int
    sha256: str | None
    commit: str

    @property
    def key(self) -> str:
        """Its name in the store: the digest, or what stands for it where the list has none."""
        return self.sha256 or "unpinned-" + value_digest([self.path, self.size, self.commit])


def snapshot(reference: hub.HubReference) -> Path:
    """The folder with the files of the reference, downloaded unless they are in the cache.

    Files lie once under their digest and are linked into a folder for each state of the repository, so that a new
    state neither mixes with an old one nor costs its unchanged files again.
    """
    store = _store(reference)
    entries = _entries(reference)
    chosen = set(reference.chosen(entry.path for entry in entries))
    files = [entry for entry in entries if entry.path in chosen]
    root = store / "snapshots" / value_digest([[e.path, e.key] for e in entries])[:16]
    root.mkdir(parents=True, exist_ok=True)
    missing = [entry for entry in files if not _stored(store / "blobs" / entry.key, entry)]
    if missing:
        with Progress(str(reference), sum(entry.size for entry in missing) / 1e6, "MB") as progress:
            for entry in missing:
                _fetch(reference, entry, store / "blobs" / entry.key, progress)
    for entry in files:
        _link(store / "blobs" / entry.key, root / entry.path)
    return root


def names(reference: hub.HubReference) -> list[str]:
    """The paths of all files of the repository."""
    return [entry.path for entry in _entries(reference)]


def listing(reference: hub.HubReference) -> tuple[str | None, dict[str, int | None]]:
    """The revision as it was asked for (the files' digests are checked anyway) and {path: bytes} of all files."""
    return reference.revision, {entry.path: entry.size for entry in _entries(reference)}


def _store(reference: hub.HubReference) -> Path:
    return cache_folder() / "modelscope" / ("datasets" if reference.dataset else "models") / reference.repository


def _endpoint() -> str:
    place = os.environ.get("MODELSCOPE_ENDPOINT") or os.environ.get("MODELSCOPE_DOMAIN") or DOMAIN
    return (place if "://" in place else f"https://{place}").rstrip("/")


def _headers() -> dict[str, str]:
    token = os.environ.get("MODELSCOPE_API_TOKEN")
    return {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}


def _address(reference: hub.HubReference, call: str, **query: object) -> str:
    kind = "datasets" if reference.dataset else "models"
    place = urllib.parse.quote(reference.repository)
    return f"{_endpoint()}/api/v1/{kind}/{place}/{call}?{urllib.parse.urlencode(query)}"


def _entries(reference: hub.HubReference) -> list[Entry]:
    """The list from the hub, remembered; what is remembered where downloads are switched off."""
    listed = _store(reference) / "listed" / f"{value_digest(reference.revision or REVISION)[:16]}.json"
    if transport.offline():
        if not listed.is_file():
            raise LuhuoError(
                tr("This is not in the cache, and downloads are switched off.", "缓存中没有，且已禁止下载。"),
                found="LUHUO_OFFLINE",
                where=reference,
                fix=aliases.without_hub(),
            )
        return [Entry(**row) for row in json.loads(listed.read_text(encoding="utf-8"))]
    entries = _list(reference)
    listed.parent.mkdir(parents=True, exist_ok=True)
    write_json(listed, [vars(entry) for entry in entries])
    return entries


def _list(reference: hub.HubReference) -> list[Entry]:
    """All files of the repository, sorted by path. Raises `LuhuoError` if the hub does not show them."""
    rows = _pages(reference) if reference.dataset else _tree(reference, "")
    entries = {}
    for row in rows:
        path = str(row.get("Path") or row.get("Name"))
        pure = PurePosixPath(path)
        if row.get("Type") == "tree":
            continue
        if pure.is_absolute() or ".." in pure.parts or "\\" in path or ":" in path or "\0" in path:
            raise LuhuoError(tr("The hub names a path that leads outside.", "仓库给出了指向外部的路径。"), found=path)
        entries[path] = Entry(
            path, int(row.get("Size") or 0), row.get("Sha256") or None, str(row.get("Revision") or "")
        )
    return [entries[path] for path in sorted(entries)]


def _tree(reference: hub.HubReference, folder: str) -> list[dict[str, Any]]:
    """Everything below a folder; folder by folder where one answer would be cut off."""
    rows = _ask(reference, "repo/files", Recursive="True", **({"Root": folder} if folder else {}))
    if len(rows) < LISTED:
        return rows
    rows = _ask(reference, "repo/files", Recursive="False", **({"Root": folder} if folder else {}))
    if len(rows) >= LISTED:
        raise LuhuoError(
            tr(
                "A folder of this repository has more files than the hub lists.",
                "该仓库的目录文件数超出可列出的上限。",
            ),
            expected=f"< {LISTED}",
            where=f"{reference}: {folder}",
        )
    below = [row for row in rows if row.get("Type") == "tree"]
    return [row for row in rows if row.get("Type") != "tree"] + [
        row for child in below for row in _tree(reference, str(child["Path"]))
    ]


def _pages(reference: hub.HubReference) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    number = 1
    while True:
        page = _ask(reference, "repo/tree", Recursive="True", PageNumber=number, PageSize=PAGE)
        rows += page
        if len(page) < PAGE:
            return rows
        number += 1


def _ask(reference: hub.HubReference, call: str, **query: object) -> list[dict[str, Any]]:
    url = _address(reference, call, Revision=reference.revision or REVISION, **query)
    try:
        answer = transport.read(url, accept="application/json", headers=_headers())
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise LuhuoError(
                tr("The hub asks for a login.", "模型仓库要求登录。"),
                found=f"HTTP {error.code}",
                where=reference,
                fix=tr("Set MODELSCOPE_API_TOKEN.", "请设置 MODELSCOPE_API_TOKEN。"),
            ) from error
        raise hub.Unreachable(reference, transport.public(_endpoint()), error) from error
    except (OSError, http.client.HTTPException) as error:
        raise hub.Unreachable(reference, transport.public(_endpoint()), error) from error
    try:
        page = json.loads(answer.body) if answer is not None else {"Success": False, "Message": "HTTP 404"}
        if not page.get("Success", True):
            raise LuhuoError(
                tr("The hub shows no such repository or revision.", "仓库或版本不存在或不可见。"),
                found=page.get("Message") or page.get("Code"),
                where=reference,
                fix=tr("Check owner, name and revision.", "检查所有者、名称与版本。"),
            )
        data = page["Data"]
        rows = data["Files"] if isinstance(data, dict) else data
        return [dict(row) for row in rows or []]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LuhuoError(
            tr("The hub's answer cannot be read.", "无法读懂模型仓库的应答。"),
            found=repr(error),
            where=transport.public(url),
        ) from error


def _stored(blob: Path, entry: Entry) -> bool:
    if not blob.is_file():
        return False
    return verified.is_right(blob, entry.sha256) if entry.sha256 else blob.stat().st_size == entry.size


def _fetch(reference: hub.HubReference, entry: Entry, blob: Path, progress: Progress) -> None:
    url = _address(reference, "repo", Revision=reference.revision or REVISION, FilePath=entry.path)
    download(Wanted(url, blob, entry.sha256, entry.size, _headers()), progress)


def _link(blob: Path, path: Path) -> None:
    """A hard link, or a copy where the disk knows none; nothing where it is there already."""
    if path.exists() and (path.samefile(blob) or path.stat().st_mtime_ns == blob.stat().st_mtime_ns):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.link")
    try:
        os.link(blob, temporary)
    except OSError:
        shutil.copy2(blob, temporary)
    temporary.replace(path)
