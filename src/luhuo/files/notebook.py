"""Jupyter notebooks (nbformat 3 and 4): prose and code in their order, without outputs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from luhuo.files.blobs import Blob, read_whole
from luhuo.files.records import Broken, Record, broken, record


def read_notebook(blob: Blob) -> Iterator[Record | Broken]:
    """A notebook as Markdown, code in fences; `language` in the fields."""
    with blob.open() as raw:
        data = read_whole(raw)
    if data is None:
        yield broken(blob.name, 0, "too_long")
        return
    try:
        book = json.loads(data)
    except (ValueError, RecursionError) as error:
        yield broken(blob.name, 0, "bad_json", error)
        return
    metadata = book.get("metadata") if isinstance(book, dict) else None
    told = _at(metadata, "language_info", "name") or _at(metadata, "kernelspec", "language") or "python"
    language = told if isinstance(told, str) else "python"
    yield record("\n\n".join(_blocks(book, language)), blob.name, 1, {"language": language})


def _blocks(book: Any, language: str) -> Iterator[str]:
    sheets = book.get("worksheets") if isinstance(book, dict) else None  # nbformat 3
    holders = [book, *(sheets if isinstance(sheets, list) else [])]
    for holder in holders:
        cells = holder.get("cells") if isinstance(holder, dict) else None
        for cell in cells if isinstance(cells, list) else []:
            if not isinstance(cell, dict):
                continue
            source = cell.get("source", cell.get("input", ""))
            lines = source if isinstance(source, list) else [source]
            text = "".join(line for line in lines if isinstance(line, str)).strip("\n")
            if text.strip() and cell.get("cell_type") in ("markdown", "heading", "code"):
                yield f"```{language}\n{text}\n```" if cell["cell_type"] == "code" else text


def _at(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
