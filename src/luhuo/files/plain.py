"""Plain texts as documents: a whole one, or, where it is long, parts that end where a paragraph does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from luhuo.files.blobs import Blob
from luhuo.files.records import Broken, Record, broken, is_unicode, record
from luhuo.files.streams import as_text, lines

DOCUMENT_CHARS = 1_000_000
"""A text up to this length is one document; a longer one is divided at blank lines."""


def read_plain(blob: Blob, encoding: str) -> Iterator[Record | Broken]:
    """The whole file as one text, or, past `DOCUMENT_CHARS`, parts that end at a blank line where there is one."""
    held: list[str] = []
    start, chars, blank = 1, 0, 0
    number = 0
    with blob.open() as raw:
        for number, line, whole in lines(as_text(raw, encoding)):
            if not whole or not is_unicode(line):
                yield broken(blob.name, number, "bad_encoding" if whole else "line_too_long", line)
                continue
            held.append(line)
            chars += len(line) + 1
            if not line.strip():
                blank = len(held)
            if chars > DOCUMENT_CHARS:
                cut = blank or len(held)
                yield record("\n".join(held[:cut]), blob.name, start)
                held = held[cut:]
                start, chars, blank = number + 1 - len(held), sum(len(x) + 1 for x in held), 0
    if held:
        yield record("\n".join(held), blob.name, start)
    if number == 0:
        yield broken(blob.name, 0, "empty")


def gather(blocks: Iterable[tuple[int, str]], name: str, fields: dict[str, Any]) -> Iterator[Record | Broken]:
    """Blocks of one text, (place, text) each, as a document with blank lines between them; a new document begins
    where the next block would make it longer than `DOCUMENT_CHARS`. A record's line is the place of its first block.
    """
    held: list[str] = []
    start = chars = 0
    for place, text in blocks:
        if held and chars + len(text) > DOCUMENT_CHARS:
            yield record("\n\n".join(held), name, start, dict(fields))
            held, chars = [], 0
        start = start if held else place
        held.append(text)
        chars += len(text) + 2
    if held:
        yield record("\n\n".join(held), name, start, dict(fields))
