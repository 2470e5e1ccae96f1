"""Tokenizers side by side on the same texts: vocabulary, compression by language, speed, and what is lost."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.readers import read_records
from luhuo.files.records import Record
from luhuo.files.references import resolve
from luhuo.tokenizer.measure import HAN, Efficiency
from luhuo.tokenizer.tokenizer import Tokenizer

MAX_CHARS = 5_000_000
"""Text that is compared; what follows is not read."""


@dataclass(frozen=True)
class Row:
    """One tokenizer's figures. A language without text has None."""

    name: str
    vocab_size: int
    zh_chars_per_token: float | None
    en_words_per_token: float | None
    bytes_per_token: float
    mb_per_second: float
    lost: float
    """Share of lines that do not come back equal from decode(encode(line))."""


def compare(references: Sequence[str], files: Sequence[str | Path]) -> list[Row]:
    """Measure each tokenizer (a folder or a reference) on the texts, line by line.

    A line counts as Chinese if it holds a Han character. Raises `LuhuoError` if there is no text.
    """
    lines = _lines(files)
    return [_measure(reference, lines) for reference in references]


def compare_table(rows: Iterable[Row]) -> tuple[list[str], list[list[str]]]:
    """(headings, cells) of the table in the user's language."""
    headings = [
        tr("tokenizer", "分词器"),
        tr("vocabulary", "词表"),
        tr("Chinese characters/token", "汉字/词元"),
        tr("English words/token", "英文词/词元"),
        tr("bytes/token", "字节/词元"),
        "MB/s",
        tr("lines lost", "失真行"),
    ]
    cells = [
        [
            row.name,
            f"{row.vocab_size:,}",
            "–" if row.zh_chars_per_token is None else f"{row.zh_chars_per_token:.3f}",
            "–" if row.en_words_per_token is None else f"{row.en_words_per_token:.3f}",
            f"{row.bytes_per_token:.3f}",
            f"{row.mb_per_second:.1f}",
            f"{row.lost:.2%}",
        ]
        for row in rows
    ]
    return headings, cells


def _lines(files: Sequence[str | Path]) -> list[str]:
    lines: list[str] = []
    chars = 0
    for file in files:
        for record in read_records(resolve(str(file)).path):
            if isinstance(record, Record):
                for line in record.text.splitlines():
                    if line.strip() and chars < MAX_CHARS:
                        lines.append(line)
                        chars += len(line)
            if chars >= MAX_CHARS:
                return lines
    if not lines:
        raise LuhuoError(
            tr("There is no text to compare on.", "没有可用来比较的文本。"), where=", ".join(map(str, files))
        )
    return lines


def _measure(reference: str, lines: list[str]) -> Row:
    tokenizer = Tokenizer.load(resolve(reference, weights=False).path)
    start = time.perf_counter()
    encoded = tokenizer.encode_batch(lines)
    seconds = time.perf_counter() - start
    everything, zh, en = Efficiency(), Efficiency(), Efficiency()
    lost = 0
    for line, ids in zip(lines, encoded, strict=True):
        everything.add(line, ids)
        (zh if HAN.search(line) else en).add(line, ids)
        lost += tokenizer.decode(ids) != line
    return Row(
        name=str(reference),
        vocab_size=tokenizer.vocab_size,
        zh_chars_per_token=zh.han / zh.tokens if zh.tokens else None,
        en_words_per_token=en.words / en.tokens if en.tokens else None,
        bytes_per_token=everything.ratios()["bytes_per_token"],
        mb_per_second=everything.bytes / 1e6 / max(seconds, 1e-9),
        lost=lost / len(lines),
    )
