"""Documents of a corpus artifact: `documents/{train,valid,test}.jsonl.zst`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

import zstandard

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.streams import open_text

SPLITS = ("train", "valid", "test")


def documents_path(corpus: str | Path, split: str) -> Path:
    """The file of a split."""
    return Path(corpus) / "documents" / f"{split}.jsonl.zst"


def read_documents(corpus: str | Path, split: str) -> Iterator[dict[str, Any]]:
    """Yield {"id", "text", "lang", "source", "licence"} in the order written; `LuhuoError` if it is no corpus."""
    path = documents_path(corpus, split)
    if not path.is_file():
        raise LuhuoError(
            tr("This is not the result of a corpus stage.", "这不是 corpus 阶段的产物。"),
            expected=f"documents/{split}.jsonl.zst",
            where=corpus,
        )
    try:
        with open_text(path) as handle:
            for line in handle:
                yield json.loads(line)
    except (zstandard.ZstdError, json.JSONDecodeError, EOFError) as error:
        raise LuhuoError(
            tr("The documents are damaged.", "文档文件已损坏。"),
            found=error,
            where=path,
            fix=tr("Run the corpus stage again.", "请重新运行 corpus 阶段。"),
        ) from error


def heldout(corpus: str | Path, split: str = "test") -> Iterator[tuple[str, str, str]]:
    """(source, language, text) of every held-out document, for bits per byte by source."""
    for document in read_documents(corpus, split):
        yield document["source"], document["lang"], document["text"]


@contextmanager
def writer(path: Path, level: int = 6) -> Iterator[TextIO]:
    """Open a `.zst` file for text lines; equal lines give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("wb") as raw,
        zstandard.ZstdCompressor(level=level).stream_writer(raw) as packed,
        io.TextIOWrapper(cast(Any, packed), encoding="utf-8", newline="\n") as text,
    ):
        yield text


def write_document(handle: TextIO, document: dict[str, Any]) -> None:
    """Append one document as a JSON line."""
    handle.write(json.dumps(document, ensure_ascii=False) + "\n")
