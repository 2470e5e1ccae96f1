"""The main text of web pages, without navigation and footers, by resiliparse (Bevendorff et al. 2018, ECIR)."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Any

from luhuo.core.errors import missing_extra
from luhuo.files.blobs import Blob, read_whole
from luhuo.files.encodings import AUTO, MARKS, detect
from luhuo.files.records import Broken, Record, broken, record

META = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.I)
HEAD = 2**12
DEPTH = 3000
"""Elements inside of each other. The search for the main text takes time that grows with the square of the depth (four
seconds at 16,000)."""
NESTING = re.compile(
    r"<(/?)(?:div|span|table|ul|ol|dl|a|b|i|u|s|em|strong|font|small|big|center|section|article|main|nav|aside|header"
    r"|footer|form|fieldset|blockquote|pre|code|tt|h[1-6]|figure|details|label|button|select|q|cite|sub|sup|ins|del"
    r"|object|svg|g|math)\b",
    re.I,
)
"""Elements that hold others until they are closed; those that the next of their kind closes are none of them."""
SAME = {"gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs", "iso-8859-1": "cp1252", "latin1": "cp1252"}
"""Names in pages and what is meant by them (WHATWG Encoding Standard, section 4.2)."""


def read_html(blob: Blob, encoding: str) -> Iterator[Record | Broken]:
    """The main text of one page."""
    with blob.open() as raw:
        data = read_whole(raw)
    if data is None:
        yield broken(blob.name, 0, "page_too_long")
    else:
        yield page(data, blob.name, 1, encoding)


def page(
    data: bytes, name: str, line: int, encoding: str, fields: dict[str, Any] | None = None, told: str | None = None
) -> Record | Broken:
    """A page's main text. encoding: "auto" takes what the server told or the page says if the bytes are so indeed,
    else what they look like."""
    try:
        text = decode(data, told) if encoding.lower() == AUTO else data.decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        return broken(name, line, "bad_encoding", error)
    if _depth(text) > DEPTH:
        return broken(name, line, "nested_too_deep")
    return record(main_text(text), name, line, fields)


def _depth(html: str) -> int:
    """How deep elements stand in each other, at most."""
    if html.count("<") - html.count("</") <= DEPTH:
        return 0
    depth = deepest = 0
    for found in NESTING.finditer(html):
        depth = max(0, depth - 1) if found.group(1) else depth + 1
        deepest = max(deepest, depth)
    return deepest


def main_text(html: str) -> str:
    """The text of an HTML page without what stands around its content. Raises `LuhuoError` without resiliparse."""
    try:
        from resiliparse.extract.html2text import extract_plain_text  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise missing_extra("resiliparse", "data") from None
    return extract_plain_text(html, main_content=True, alt_texts=False)


def decode(data: bytes, told: str | None = None) -> str:
    """A page's bytes as text. Servers and pages lie about encodings: what they say is taken only if it fits."""
    for mark, name in MARKS:
        if data.startswith(mark):
            return data.decode(name, "replace")
    found = META.search(data[:HEAD])
    for name in (told, found.group(1).decode("ascii", "replace") if found else None):
        try:
            codec = codecs.lookup(SAME.get((name or "").lower(), name or "")).name
            return data.decode(codec)
        except (UnicodeDecodeError, LookupError):
            continue
    return data.decode(detect(data), "replace")
