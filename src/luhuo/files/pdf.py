"""PDF through PDFium (Apache-2.0, the engine of Chrome): text page by page, with broken lines put together again.

PDFium brings the character maps of Chinese, Japanese and Korean fonts that a document does not hold itself. A file in
which no page has text (a scan) is reported: it needs character recognition first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Any

from luhuo.core.errors import missing_extra
from luhuo.files.blobs import Blob, seekable
from luhuo.files.plain import gather
from luhuo.files.records import Broken, Record, broken

HYPHENS = re.compile("[\ufffe\x02\u00ad]\r?\n?")
"""What PDFium writes for a hyphen that stands only because the line ended."""
PAGE_NUMBER = re.compile(
    r"[-–—·\s]*(?:第\s*)?(?:\d{1,4}|[ivxlc]{1,7})(?:\s*页)?(?:\s*(?:/|of|共)\s*\d{1,4}\s*页?)?[-–—·\s]*", re.I
)
NUMBERS = re.compile(r"\d+")
ENDERS = '。！？.!?:：；;」』”’"）)】》'
BEGINNINGS = re.compile(
    r"[•●▪◦‣·*\-–—]\s|\(?\d{1,3}[.)、]|[（(]?[一二三四五六七八九十]{1,3}[、.）)]|第[一二三四五六七八九十百\d]+[章节節条條]|#"
)
CJK = re.compile("[\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")
MARGIN_LINES = 2
"""Lines at the head and the foot of a page in which running titles stand."""


def read_pdf(blob: Blob) -> Iterator[Record | Broken]:
    """The text as one record, or several where it is long; `pages` in the fields. A record's line is its first page.
    Raises `LuhuoError` without pypdfium2."""
    try:
        import pypdfium2
    except ImportError:
        raise missing_extra("pypdfium2", "data") from None
    with seekable(blob) as handle:
        try:
            document = pypdfium2.PdfDocument(handle)
        except pypdfium2.PdfiumError as error:
            yield broken(blob.name, 0, _reason(error, handle), error)
            return
        try:
            yield from _records(document, blob.name, pypdfium2.PdfiumError)
        finally:
            document.close()


def _reason(error: Exception, handle: IO[bytes]) -> str:
    handle.seek(0)
    if not handle.read(1):
        return "empty"
    return "encrypted" if "password" in str(error).lower() else "bad_pdf"


def _records(document: Any, name: str, failed: type[Exception]) -> Iterator[Record | Broken]:
    damage: list[Broken] = []
    fields = {"pages": len(document)}
    found = False
    for item in gather(_pages(document, name, damage, failed), name, fields):
        found = True
        yield item
    yield from damage
    if not found and not damage:
        yield broken(name, 0, "no_text")


def _pages(document: Any, name: str, damage: list[Broken], failed: type[Exception]) -> Iterator[tuple[int, str]]:
    """(number, text) of the pages. A paragraph that goes on from one page to the next is put together: what is open
    at the end of a page is carried over."""
    margins: list[str] = []
    carried = ""
    for number in range(1, len(document) + 1):
        try:
            text = _text(document[number - 1])
        except failed as error:
            damage.append(broken(name, number, "bad_page", error))
            continue
        lines, margins = _without_margins(text.splitlines(), margins)
        paragraphs = joined([carried, *lines] if carried else lines)
        carried = ""
        if paragraphs and paragraphs[-1][-1] not in ENDERS and number < len(document) and len(paragraphs[-1]) > 60:
            carried = paragraphs.pop()
        if paragraphs:
            yield number, "\n\n".join(paragraphs)
    if carried:
        yield len(document), carried


def _text(page: Any) -> str:
    try:
        words = page.get_textpage()
        try:
            return HYPHENS.sub("\xad\n", words.get_text_range())
        finally:
            words.close()
    finally:
        page.close()


def _without_margins(lines: list[str], before: list[str]) -> tuple[list[str], list[str]]:
    """A page's lines without page numbers and without what stood at the same edge of the page before it (numbers
    aside), and the lines at its edges for the page after it."""
    lines = [line for line in lines if line.strip()]
    places = [*range(min(MARGIN_LINES, len(lines))), *range(max(MARGIN_LINES, len(lines) - MARGIN_LINES), len(lines))]
    edges = {place: NUMBERS.sub("0", lines[place].strip()) for place in places}
    gone = {
        place
        for place, line in edges.items()
        if (line in before and len(lines) > MARGIN_LINES) or PAGE_NUMBER.fullmatch(lines[place].strip()[:60])
    }
    return [line for place, line in enumerate(lines) if place not in gone], list(edges.values())


def joined(lines: list[str]) -> list[str]:
    """Paragraphs out of lines that were broken to fit a page.

    A line goes on in the next one unless it is clearly shorter than the others and ends a sentence, or the next begins
    an item or is set in. Between Chinese characters nothing is put, between words a space; a hyphen that stands
    before a small letter at the end of a line goes.
    """
    lines = [line.replace("\r", "") for line in lines if line.strip()]
    widths = sorted(len(line) for line in lines)
    full = widths[int(len(widths) * 0.8)] if widths else 0
    paragraphs: list[str] = []
    last = ""
    for line in lines:
        text = line.strip()
        new = not paragraphs or _ends(last, full) or BEGINNINGS.match(text) or line.startswith(("　　", "    "))
        if new:
            paragraphs.append(text)
        else:
            paragraphs[-1] = _join(paragraphs[-1], text)
        last = line.rstrip()
    return [paragraph.replace("\xad", "") for paragraph in paragraphs]


def _ends(line: str, full: int) -> bool:
    """Whether a paragraph ends with this line: it is short, and more so where no sentence ends in it."""
    return len(line) < full * (0.9 if line.endswith(tuple(ENDERS)) else 0.6)


def _join(before: str, after: str) -> str:
    if before.endswith("\xad"):
        return before[:-1] + after
    if before.endswith("-") and after[:1].islower() and before[-2:-1].isalpha():
        return before[:-1] + after
    if CJK.match(before[-1]) or CJK.match(after[0]):
        return before + after
    return f"{before} {after}"
