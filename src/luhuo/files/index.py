"""Finding archives in the package index the user's pip is configured for (PEP 503 HTML, PEP 691 JSON, find-links)."""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import subprocess
import sys
import urllib.parse
import urllib.request
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.language import tr
from luhuo.files import transport

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.9, text/html;q=0.5"
ARCHIVES = (".whl", ".tar.gz", ".tgz", ".zip", ".tar.bz2", ".tar.xz")
KEYS = ("index-url", "extra-index-url", "find-links", "no-index", "cert")


@dataclass(frozen=True)
class Offer:
    """One archive an index offers."""

    filename: str
    url: str
    sha256: str | None


@dataclass(frozen=True)
class Settings:
    """Where pip would look."""

    indexes: tuple[str, ...]
    find_links: tuple[str, ...]

    def pages(self, name: str) -> list[str]:
        """The addresses to ask for a package, in order."""
        normal = re.sub(r"[-_.]+", "-", name).lower()
        return [*self.find_links, *(f"{index.rstrip('/')}/{normal}/" for index in self.indexes)]


def settings() -> Settings:
    """Read pip's settings: its environment variables first, then its configuration files."""
    values = _configured() | {k: v for k in KEYS if (v := os.environ.get(f"PIP_{k.upper().replace('-', '_')}"))}
    if "cert" in values:
        transport.trust(values["cert"])
    first = values.get("index-url", "").split() or [_default_index()]
    none = values.get("no-index", "").lower() in ("1", "true", "yes", "on")
    indexes = [] if none else [*first, *values.get("extra-index-url", "").split()]
    return Settings(tuple(map(_as_url, indexes)), tuple(map(_as_url, values.get("find-links", "").split())))


def find(name: str, version: str) -> list[Offer]:
    """The archives of a version that the configured places offer. Raises `RunFailed` if a place does not answer."""
    offers: dict[str, Offer] = {}
    failures = []
    pages = settings().pages(name)
    for page in pages:
        try:
            links = _links(page)
        except (OSError, ValueError) as error:
            failures.append(f"{transport.public(page)}: {error}")
            continue
        for offer in links:
            if _is_version(offer.filename, name, version):
                offers.setdefault(f"{offer.filename} {offer.sha256}", offer)
    if not offers and failures:
        raise RunFailed(
            tr("A package index does not answer.", "软件包索引没有应答。"),
            found="; ".join(failures),
            fix=tr(
                "Name another index with PIP_INDEX_URL, a folder that holds the archive with PIP_FIND_LINKS, "
                "or a proxy with HTTPS_PROXY.",
                "用 PIP_INDEX_URL 指定其他索引，用 PIP_FIND_LINKS 指定存有该归档的目录，或用 HTTPS_PROXY 指定代理。",
            ),
        )
    return list(offers.values())


@functools.cache
def _configured() -> dict[str, str]:
    """`pip config list`, the narrower section over the wider one; nothing if pip is not installed."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    values: dict[str, str] = {}
    rows = [line.partition("=") for line in run.stdout.splitlines()]
    for section in ("global", "install"):
        for key, _, value in rows:
            prefix, _, name = key.partition(".")
            if prefix == section and name in KEYS:
                values[name] = str(ast.literal_eval(value))
    return values


def _default_index() -> str:
    try:
        from pip._internal.models.index import PyPI
    except ImportError:
        raise LuhuoError(
            tr("pip is not installed here, so its default index is not known.", "这里没有 pip，不知道默认索引。"),
            fix=tr("Set PIP_INDEX_URL to the address of a package index.", "用 PIP_INDEX_URL 指定软件包索引的地址。"),
        ) from None
    return PyPI.simple_url


def _as_url(place: str) -> str:
    return place if "://" in place or place.startswith("file:") else Path(place).expanduser().absolute().as_uri()


def _links(page: str) -> list[Offer]:
    """The links of one page; of a folder on this disk, its `index.html` or, without one, its files."""
    parts = urllib.parse.urlsplit(page)
    if parts.scheme == "file":
        folder = Path(urllib.request.url2pathname(parts.path))
        if folder.is_dir():
            if not (folder / "index.html").is_file():
                return [Offer(f.name, f.as_uri(), None) for f in sorted(folder.iterdir()) if f.is_file()]
            page = (folder / "index.html").as_uri()
        elif not folder.exists():
            return []
    answer = transport.read(page, accept=ACCEPT)
    if answer is None:
        return []
    if "json" in answer.content_type:
        files = json.loads(answer.body)["files"]
        rows = [(f["filename"], f["url"], f.get("hashes", {}).get("sha256")) for f in files]
        return [Offer(name, urllib.parse.urljoin(answer.url, url), sha) for name, url, sha in rows]
    parser = _Anchors(answer.url)
    parser.feed(answer.body.decode("utf-8", "replace"))
    return parser.offers


class _Anchors(HTMLParser):
    """Collects the archives an HTML page links to."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base, self.offers = base, list[Offer]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if tag == "base" and href:
            self.base = urllib.parse.urljoin(self.base, href)
        elif tag == "a" and href:
            url, fragment = urllib.parse.urldefrag(urllib.parse.urljoin(self.base, href))
            name = urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2])
            sha = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else None
            self.offers.append(Offer(name, url, sha))


def _is_version(filename: str, name: str, version: str) -> bool:
    """Whether a file name is a wheel or source archive of this name and version (dashes and dots are alike)."""
    ending = next((e for e in ARCHIVES if filename.endswith(e)), None)
    if ending is None:
        return False
    plain = re.sub(r"[-_.]+", "-", filename.removesuffix(ending)).lower()
    wanted = re.sub(r"[-_.]+", "-", f"{name}-{version}").lower()
    return plain == wanted or (ending == ".whl" and plain.startswith(wanted + "-"))
