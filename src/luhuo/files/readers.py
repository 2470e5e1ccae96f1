"""Streaming readers of everything that holds text: see `FORMATS`, each also compressed or packed in an archive.

Nothing is held in memory but one line, element, page or document. What cannot be read is yielded as `Broken` with the
code of the reason, never dropped, and the reading goes on behind it.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import BadZipFile

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files import docx, epub, html, mediawiki, notebook, packed, pdf, plain, source_code, structured, warc
from luhuo.files.blobs import Blob
from luhuo.files.fields import text_at
from luhuo.files.records import Broken, Record, broken, record
from luhuo.files.streams import COMPRESSIONS, DAMAGED, Bomb, format_of
from luhuo.files.zipped import Encrypted

PLAIN = ("txt", "md", "rst", "text", "markdown")
PAGES = ("html", "htm", "xhtml")
STRUCTURED = ("json", "jsonl", "ndjson", "csv", "tsv", "parquet")
DOCUMENTS = ("pdf", "docx", "epub", "ipynb")
DUMPS = ("warc", "wet", "xml")
FORMATS = (*PLAIN, *PAGES, *STRUCTURED, *DOCUMENTS, *DUMPS, *packed.ARCHIVES, *source_code.SUFFIXES)

READERS: dict[str, Callable[[Blob, str], Iterator[Record | Broken]]] = {
    **dict.fromkeys(PLAIN, plain.read_plain),
    **dict.fromkeys(PAGES, html.read_html),
    **dict.fromkeys(("warc", "wet"), warc.read_warc),
    **dict.fromkeys(source_code.SUFFIXES, source_code.read_code),
    "pdf": lambda blob, _: pdf.read_pdf(blob),
    "docx": lambda blob, _: docx.read_docx(blob),
    "epub": lambda blob, _: epub.read_epub(blob),
    "ipynb": lambda blob, _: notebook.read_notebook(blob),
    "xml": lambda blob, _: mediawiki.read_dump(blob),
}
"""How a blob of a format becomes records; the structured formats and archives have options of their own."""


def read_records(path: str | Path, *, text_field: str = "text", encoding: str = "utf-8") -> Iterator[Record | Broken]:
    """Read a file, a folder (all files below it, in sorted order) or a glob.

    `text_field` names the text in JSON objects and table rows: dots go into nested objects, `+` joins several fields,
    and a list of messages becomes their contents (`files.fields`). `encoding` "auto" tells it file by file. Raises
    `LuhuoError` if there is nothing to read, a single file has an unknown format, or an optional package is missing.
    """
    files = list_files(path)
    if len(files) == 1 and format_of(files[0]) not in FORMATS:
        known = (*PLAIN, *PAGES, *STRUCTURED, *DOCUMENTS, *DUMPS, *packed.ARCHIVES)
        raise LuhuoError(
            tr("This file format is not known.", "不认识这种文件格式。"),
            expected=", ".join(known)
            + tr(f", source code, each also with {COMPRESSIONS}", f"、源代码，均可加 {COMPRESSIONS}"),
            found=files[0].name,
            where=files[0],
        )
    for file in files:
        yield from read_file(file, text_field=text_field, encoding=encoding)


def list_files(path: str | Path) -> list[Path]:
    """The files a path, folder or glob names, sorted; hidden ones are left out. `LuhuoError` if there are none."""
    root = Path(path)
    if root.is_file():
        return [root]
    if root.is_dir():
        found = [f for f in root.rglob("*") if not any(p.startswith(".") for p in f.relative_to(root).parts)]
    else:
        found = [Path(name) for name in glob.glob(str(path), recursive=True)]  # noqa: PTH207 (absolute globs)
    found = sorted(f for f in found if f.is_file())
    if not found:
        raise LuhuoError(
            tr("There is nothing to read.", "没有可读的内容。"),
            expected=tr("a file, a folder or a glob such as data/*.jsonl", "文件、目录，或 data/*.jsonl 之类的通配"),
            where=path,
        )
    return found


def read_file(file: Path, *, text_field: str = "text", encoding: str = "utf-8") -> Iterator[Record | Broken]:
    """One file; an unknown format is a `Broken` too. Raises `LuhuoError` if an optional package is missing."""
    yield from _read(Blob.of(file), text_field, encoding)


def _read(blob: Blob, text_field: str, encoding: str) -> Iterator[Record | Broken]:
    try:
        if blob.kind in packed.ARCHIVES:
            for member in packed.members(blob):
                if isinstance(member, Broken):
                    yield member
                else:
                    yield from _read(member, text_field, encoding)
        elif blob.kind in STRUCTURED:
            for row in structured.blob_rows(blob, encoding):
                yield row if isinstance(row, Broken) else record_of(blob.name, row.line, row.value, text_field)
        elif blob.kind in READERS:
            yield from READERS[blob.kind](blob, encoding)
        else:
            yield broken(blob.name, 0, "unknown_format", PurePosixPath(blob.name).name)
    except Bomb as error:
        yield broken(blob.name, 0, "bomb", error)
    except Encrypted as error:
        yield broken(blob.name, 0, "encrypted", error)
    except (*DAMAGED, BadZipFile) as error:
        yield broken(blob.name, 0, "bad_compression", error)


def record_of(file: str, line: int, value: Any, text_field: str) -> Record | Broken:
    """Pick the text out of a JSON value: a plain string is the text itself."""
    if isinstance(value, str):
        return record(value, file, line)
    text = text_at(value, text_field)
    if text is None:
        return broken(file, line, "missing_field", value)
    if not isinstance(text, str):
        return broken(file, line, "not_text", value)
    return record(text, file, line, value if isinstance(value, dict) else {})
