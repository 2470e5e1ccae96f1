"""Reading pages and downloading files over https, http and file addresses, with retries and a size bound."""

from __future__ import annotations

import base64
import hashlib
import os
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luhuo.core.atomic import atomic_path
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import Progress

TRIES = 3
CHUNK = 2**20
PAGE_BYTES = 64 * 2**20
FILE_BYTES = 4 * 2**30
"""No download is larger than this."""

_certificates: list[str] = []


@dataclass(frozen=True)
class Answer:
    """A page: its final address, its kind and its content."""

    url: str
    content_type: str
    body: bytes


def trust(certificates: str) -> None:
    """Check servers against this file of certificates (pip's `cert` setting) as well."""
    _certificates[:] = [certificates]


def read(url: str, *, accept: str) -> Answer | None:
    """A page, or None where the server says there is none (404, 410). Raises `OSError` otherwise."""
    last: OSError | None = None
    for attempt in range(TRIES):
        try:
            with _open(url, accept) as response:
                kind = response.headers.get("Content-Type", "text/html")
                return Answer(response.geturl(), kind, response.read(PAGE_BYTES))
        except urllib.error.HTTPError as error:
            if error.code in (404, 410):
                return None
            last = error
            if error.code < 500 and error.code != 429:
                break
        except OSError as error:
            last = error
            if url.startswith("file:"):
                break
        time.sleep(attempt)
    raise last or OSError(url)


def download(url: str, target: Path, *, expected: str) -> str:
    """Fetch `url` to `target` and return its SHA-256; the file is kept only if that is the expected one.

    Raises `LuhuoError` if the server does not deliver after a few tries or the file is too large.
    """
    for attempt in range(TRIES):
        try:
            with atomic_path(target) as temporary:
                found = _stream(url, temporary)
                if found != expected:
                    raise _OtherFileError(found)
            return found
        except _OtherFileError as other:
            return other.args[0]
        except OSError as error:
            if attempt + 1 == TRIES:
                raise LuhuoError(
                    tr("The download failed.", "下载失败。"),
                    found=str(error),
                    where=url,
                    fix=tr("Check the network and run the same command again.", "检查网络后重新运行同一命令。"),
                ) from error
            time.sleep(1 + attempt)
    raise AssertionError("unreachable")


class _OtherFileError(ValueError):
    """The file came whole and has another digest."""


def _stream(url: str, path: Path) -> str:
    sha = hashlib.sha256()
    done = 0
    name = urllib.parse.urlsplit(url).path.rpartition("/")[2]
    with _open(url, "*/*") as response, path.open("wb") as handle:
        size = int(response.headers.get("Content-Length") or 0)
        with Progress(name, size / 1e6 or None, "MB") as progress:
            while block := response.read(CHUNK):
                done += len(block)
                if done > FILE_BYTES:
                    raise LuhuoError(
                        tr("The file is too large to download.", "文件太大，拒绝下载。"),
                        found=f"> {FILE_BYTES:,}",
                        where=url,
                    )
                sha.update(block)
                handle.write(block)
                progress.advance(len(block) / 1e6)
    if size and done != size:
        raise OSError(tr(f"connection closed after {done:,} of {size:,} bytes", f"连接中断：{done:,}/{size:,} 字节"))
    return sha.hexdigest()


def _open(url: str, accept: str) -> Any:
    parts = urllib.parse.urlsplit(url)
    headers = {"Accept": accept, "User-Agent": "luhuo"}
    if parts.username:
        secret = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(secret.encode()).decode()
        url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    context = ssl.create_default_context()
    if _certificates and Path(_certificates[0]).is_file():
        context.load_verify_locations(_certificates[0])
    timeout = float(os.environ.get("PIP_DEFAULT_TIMEOUT", 60))
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout, context=context)
