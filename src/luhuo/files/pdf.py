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
BULLET = re.compile(r"[•●▪◦‣·*\-–—]\s")
NUMBERED = re.compile(
    r"\(?\d{1,3}(?:[.．](?!\d)|[)）、])|[（(]?[一二三四五六七八九十]{1,3}[、.）)]"
    r"|第[一二三四五六七八九十百\d]+[章节節条條]|#"
)
CJK = re.compile("[\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")
PARAGRAPH_CHARS = (60, 20_000)
"""What is open at the end of a page and shorter is a heading; what is longer is given out as it is."""
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
    carried = ""
    for number, lines in _body(_lines(document, name, damage, failed)):
        paragraphs = joined([carried, *lines] if carried else lines)
        carried = ""
        if (
            paragraphs
            and paragraphs[-1][-1] not in ENDERS
            and PARAGRAPH_CHARS[0] < len(paragraphs[-1]) < PARAGRAPH_CHARS[1]
        ):
            carried = paragraphs.pop()
        if paragraphs:
            yield number, "\n\n".join(paragraphs)
    if carried:
        yield len(document), carried


def _lines(document: Any, name: str, damage: list[Broken], failed: type[Exception]) -> Iterator[tuple[int, list[str]]]:
    """(number, lines that are not empty) of the pages that can be read."""
    for number in range(1, len(document) + 1):
        try:
            text = _text(document[number - 1])
        except failed as error:
            damage.append(broken(name, number, "bad_page", error))
            continue
        yield number, [line for line in text.splitlines() if line.strip()]


def _body(pages: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    """The pages without page numbers, and without the lines at their edges that stand, numbers aside, at the edges of
    the page before: running titles, the first of which stays."""
    before: set[str] = set()
    for number, lines in pages:
        last = len(lines) - MARGIN_LINES
        edges = {
            place: NUMBERS.sub("0", line.strip()[:200])
            for place, line in enumerate(lines)
            if place < MARGIN_LINES or place >= last
        }
        gone = {
            place
            for place, line in edges.items()
            if (line in before and last > 0) or PAGE_NUMBER.fullmatch(lines[place].strip()[:60])
        }
        before = set(edges.values())
        yield number, [line for place, line in enumerate(lines) if place not in gone]


def _text(page: Any) -> str:
    try:
        words = page.get_textpage()
        try:
            return HYPHENS.sub("\xad\n", words.get_text_range())
        finally:
            words.close()
    finally:
        page.close()


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
        closed = last.endswith(tuple(ENDERS)) or len(last) < 0.85 * full
        begins = line.startswith(("　　", "    ")) or BULLET.match(text) or (closed and NUMBERED.match(text))
        if not paragraphs or begins or _ends(last, full):
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
