"""Word documents (Office Open XML, ECMA-376 part 1): headings, paragraphs, lists, tables, foot- and endnotes.

What was deleted or moved away under change tracking is left out, and so is what is there twice for older programs.
"""

from __future__ import annotations

from collections.abc import Iterator
from zipfile import BadZipFile, ZipFile

from luhuo.files.blobs import Blob
from luhuo.files.plain import gather
from luhuo.files.records import Broken, Record, broken
from luhuo.files.safe_xml import BadXml, events
from luhuo.files.zipped import Encrypted, member, opened

BODY = "word/document.xml"
SKIPPED = frozenset({"del", "moveFrom", "Fallback", "sectPr", "tblPr", "rPr"})
BREAKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
REFERENCES = {"footnoteReference": "", "endnoteReference": "e"}
ROWS = 5000
"""A longer table is given out in parts."""
OLE = b"\xd0\xcf\x11\xe0"


def read_docx(blob: Blob) -> Iterator[Record | Broken]:
    """The text of a document as one record, or several where it is long. A block's place is its number from 1."""
    try:
        with opened(blob) as pack:
            if BODY not in pack.namelist():
                yield broken(blob.name, 0, "bad_docx", "no word/document.xml")
                return
            found = False
            for item in gather(enumerate(_blocks(pack, blob), 1), blob.name, {}):
                found = True
                yield item
            if not found:
                yield broken(blob.name, 0, "empty")
    except Encrypted as error:
        yield broken(blob.name, 0, "encrypted", error)
    except (BadXml, BadZipFile) as error:
        yield broken(blob.name, 0, "encrypted" if _is_ole(blob) else "bad_docx", error)


def _is_ole(blob: Blob) -> bool:
    """Whether this is an OLE container, which is what Word makes of a document with a password."""
    if blob.path is None:
        return False
    with blob.path.open("rb") as handle:
        return handle.read(4) == OLE


def _blocks(pack: ZipFile, blob: Blob) -> Iterator[str]:
    levels = _heading_levels(pack, blob)
    yield from _part(pack, blob, BODY, levels)
    for name, mark in (("word/footnotes.xml", ""), ("word/endnotes.xml", "e")):
        if name in pack.namelist():
            yield from _part(pack, blob, name, levels, mark)


def _heading_levels(pack: ZipFile, blob: Blob) -> dict[str, int]:
    """Levels of the styles that are headings: in other languages their ids are mere numbers."""
    levels: dict[str, int] = {}
    if "word/styles.xml" not in pack.namelist():
        return levels
    style = ""
    with member(pack, pack.getinfo("word/styles.xml"), blob.budget) as raw:
        for event in events(raw):
            if event.kind == "start" and event.value == "style":
                style = event.attributes.get("styleId", "")
            elif event.kind == "start" and event.value == "name":
                name = event.attributes.get("val", "").lower()
                if name == "title":
                    levels[style] = 1
                elif name.startswith("heading ") and name[8:].isdigit():
                    levels[style] = min(6, int(name[8:]))
    return levels


class _Paragraph:
    """A paragraph while it is read."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.level, self.listed = 0, False

    def text(self) -> str:
        text = "".join(self.pieces).strip()
        if not text:
            return ""
        return f"{'#' * self.level} {text}" if self.level else f"- {text}" if self.listed else text


def _part(pack: ZipFile, blob: Blob, name: str, levels: dict[str, int], mark: str | None = None) -> Iterator[str]:
    """The blocks of one part. mark: of notes, what stands before their numbers."""
    paragraphs: list[_Paragraph] = []
    cells: list[list[list[str]]] = []  # of each table around, the cells of the row that is read, in pieces
    held: list[str] = []  # items of a list or rows of a table that stand together
    skip, text, note = 0, False, ""
    with member(pack, pack.getinfo(name), blob.budget) as raw:
        for event in events(raw):
            kind, value = event.kind, event.value
            if kind == "text":
                if text and not skip and paragraphs:
                    paragraphs[-1].pieces.append(value)
            elif value in SKIPPED:
                skip += 1 if kind == "start" else -1
            elif skip:
                continue
            elif value == "t":
                text = kind == "start"
            elif kind == "start":
                if value == "p":
                    paragraphs.append(_Paragraph())
                elif value in ("footnote", "endnote"):
                    note = f"[{mark}{event.attributes.get('id', '')}] "
                elif value == "tc" and cells:
                    cells[-1].append([])
                elif value == "tr":
                    cells.append([])
                elif value == "tbl" and not cells:
                    yield from _flush(held)
                elif paragraphs:
                    _within(paragraphs[-1], value, event.attributes, levels)
            elif value == "p" and paragraphs:
                paragraph = paragraphs.pop()
                block = paragraph.text()
                if cells and cells[-1]:
                    cells[-1][-1].append(block)
                elif block and (paragraph.listed and not paragraph.level):
                    held.append(block)
                elif block:
                    yield from _flush(held)
                    yield note + block
                    note = ""
            elif value == "tr" and cells:
                row = " | ".join(" ".join(filter(None, cell)).replace("\n", " ") for cell in cells.pop()).strip()
                if cells and cells[-1]:  # a table within a cell
                    cells[-1][-1].append(row)
                elif row.strip("| "):
                    held.append(row)
                    if len(held) >= ROWS:
                        yield from _flush(held)
            elif value == "tbl" and not cells:
                yield from _flush(held)
    yield from _flush(held)


def _within(paragraph: _Paragraph, value: str, attributes: dict[str, str], levels: dict[str, int]) -> None:
    if value in BREAKS:
        paragraph.pieces.append(BREAKS[value])
    elif value == "pStyle":
        style = attributes.get("val", "")
        number = style.removeprefix("Heading")
        paragraph.level = levels.get(style, int(number) if number != style and number in "123456" and number else 0)
    elif value == "outlineLvl" and attributes.get("val", "9") in "012345":
        paragraph.level = int(attributes["val"]) + 1
    elif value == "numPr":
        paragraph.listed = True
    elif value in REFERENCES:
        paragraph.pieces.append(f"[{REFERENCES[value]}{attributes.get('id', '')}]")


def _flush(held: list[str]) -> Iterator[str]:
    if held:
        yield "\n".join(held)
        held.clear()
