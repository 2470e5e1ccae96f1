"""Dumps of MediaWiki (pages-articles.xml, .xml.bz2): the articles as plain text, one page in memory at a time."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field

from luhuo.files.blobs import Blob
from luhuo.files.records import UNIT_BYTES, Broken, Record, broken, record
from luhuo.files.safe_xml import BadXml, events
from luhuo.files.wikitext import plain

KEPT = ("title", "ns", "id", "timestamp", "model", "text")
ARTICLES = "0"


@dataclass
class _Page:
    """One page while it is read; of several revisions the last one counts."""

    redirect: bool = False
    parts: dict[str, list[str]] = field(default_factory=dict)
    size: int = 0

    def get(self, name: str) -> str:
        return "".join(self.parts.get(name, ()))


def read_dump(blob: Blob) -> Iterator[Record | Broken]:
    """The pages of the article namespace that are no redirects; `title`, `id`, `date` and `url` in the fields. A
    record's line is the page's number in the dump."""
    number, found = 0, 0
    site, language = "", ""
    page: _Page | None = None
    name, around = "", [""]
    try:
        with blob.open() as raw:
            for event in events(raw):
                if event.kind == "text":
                    if name == "base" and page is None:
                        site += event.value
                    elif page is not None and name in KEPT:
                        page.size += len(event.value)
                        if page.size <= UNIT_BYTES:
                            page.parts.setdefault(name, []).append(event.value)
                elif event.kind == "start":
                    around.append(event.value)
                    name = event.value
                    if len(around) == 2:
                        if name != "mediawiki":
                            yield broken(blob.name, 0, "unknown_xml", name)
                            return
                        language = event.attributes.get("lang", "")
                    elif name == "page":
                        page, number = _Page(), number + 1
                    elif page is not None:
                        _begin(page, name, around)
                        name = name if name != "id" or around[-2] == "page" else ""
                else:
                    around.pop()
                    name = around[-1] if event.value == "text" else ""
                    if event.value == "page" and page is not None:
                        for item in _article(page, blob.name, number, site, language):
                            found += isinstance(item, Record)
                            yield item
                        page = None
    except BadXml as error:
        yield broken(blob.name, number, "bad_xml", error)
        return
    if number == 0:
        yield broken(blob.name, 0, "empty")


def _begin(page: _Page, name: str, around: list[str]) -> None:
    if name == "redirect":
        page.redirect = True
    elif name in ("text", "timestamp", "model"):
        page.parts[name] = []


def _article(page: _Page, file: str, number: int, site: str, language: str) -> Iterator[Record | Broken]:
    if page.redirect or page.get("ns") != ARTICLES or page.get("model") not in ("", "wikitext"):
        return
    title = page.get("title")
    if page.size > UNIT_BYTES:
        yield broken(file, number, "page_too_long", title)
        return
    text = plain(page.get("text"))
    fields = {"title": title, "id": page.get("id"), "date": page.get("timestamp")}
    if language:
        fields["lang"] = language
    if site:
        fields["url"] = urllib.parse.urljoin(site, urllib.parse.quote(title.replace(" ", "_")))
    yield record(f"{title}\n\n{text}" if text else "", file, number, fields)
