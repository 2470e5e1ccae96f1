"""Electronic books (EPUB 2 and 3): the chapters in reading order."""

from __future__ import annotations

import io
import posixpath
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from zipfile import BadZipFile, ZipFile

from luhuo.core.errors import missing_extra
from luhuo.files.blobs import Blob
from luhuo.files.html import decode
from luhuo.files.plain import gather
from luhuo.files.records import Broken, Record, broken
from luhuo.files.safe_xml import BadXml, events
from luhuo.files.zipped import Encrypted, opened, read_member

CONTAINER = "META-INF/container.xml"
LOCKS = "META-INF/encryption.xml"
CHAPTERS = ("application/xhtml+xml", "text/html", "application/xml", "text/x-oeb1-document")


@dataclass
class _Book:
    """What the package document says."""

    chapters: list[str] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


def read_epub(blob: Blob) -> Iterator[Record | Broken]:
    """The text of a book as one record, or several that begin with a chapter where it is long; `title`, `creator` and
    `language` in the fields. A record's line is the number of its first chapter."""
    try:
        with opened(blob) as pack:
            book = _book(pack, blob)
            if set(book.chapters) & _locked(pack, blob):
                yield broken(blob.name, 0, "encrypted", LOCKS)
                return
            damage: list[Broken] = []
            found = 0
            for item in gather(_texts(pack, blob, book, damage), blob.name, book.fields):
                found += 1
                yield item
            yield from damage
            if not found and not damage:
                yield broken(blob.name, 0, "empty")
    except Encrypted as error:
        yield broken(blob.name, 0, "encrypted", error)
    except (BadXml, BadZipFile) as error:
        yield broken(blob.name, 0, "bad_epub", error)


def _book(pack: ZipFile, blob: Blob) -> _Book:
    container = read_member(pack, CONTAINER, blob.budget)
    if container is None:
        raise BadXml(f"no {CONTAINER}")
    roots = [e.attributes.get("full-path", "") for e in events(io.BytesIO(container)) if _starts(e, "rootfile")]
    package = read_member(pack, roots[0], blob.budget) if roots else None
    if package is None:
        raise BadXml("no package document")
    folder = posixpath.dirname(roots[0])
    book, files, order, reading = _Book(), {}, [], ""
    for event in events(io.BytesIO(package)):
        if event.kind == "text":
            if reading and event.value.strip():
                book.fields[reading] = (book.fields.get(reading, "") + event.value).strip()
        elif event.kind == "end":
            reading = ""
        elif event.value in ("title", "creator", "language") and event.value not in book.fields:
            reading = event.value
        elif event.value == "item":
            named = event.attributes
            navigation = "nav" in named.get("properties", "").split()
            if named.get("media-type") in CHAPTERS and not navigation:
                place = urllib.parse.unquote(named.get("href", ""))
                files[named.get("id", "")] = posixpath.normpath(posixpath.join(folder, place))
        elif event.value == "itemref":
            order.append(event.attributes.get("idref", ""))
    book.chapters = [files[name] for name in order if name in files]
    return book


def _starts(event: object, name: str) -> bool:
    return getattr(event, "kind", "") == "start" and getattr(event, "value", "") == name


def _locked(pack: ZipFile, blob: Blob) -> set[str]:
    """Members that are encrypted: books under copy protection; fonts alone do not matter."""
    data = read_member(pack, LOCKS, blob.budget)
    if data is None:
        return set()
    named = [e.attributes.get("URI", "") for e in events(io.BytesIO(data)) if _starts(e, "CipherReference")]
    return {urllib.parse.unquote(name) for name in named}


def _texts(pack: ZipFile, blob: Blob, book: _Book, damage: list[Broken]) -> Iterator[tuple[int, str]]:
    try:
        from resiliparse.extract.html2text import extract_plain_text  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise missing_extra("resiliparse", "data") from None
    for number, name in enumerate(book.chapters, 1):
        try:
            data = read_member(pack, name, blob.budget)
        except (Encrypted, BadZipFile) as error:
            damage.append(broken(blob.name, number, "bad_chapter", error))
            continue
        if data is None:
            damage.append(broken(blob.name, number, "missing_chapter", name))
            continue
        text = extract_plain_text(decode(data), main_content=False, alt_texts=False, links=False).strip()
        if text:
            yield number, text
