"""Chinese counterparts of the English rules, which see one endless word where Chinese has sentences.

- `han`: share of Han characters among letters (EvalWeb, arXiv 2311.01149, section 3.1: 30%; MNBVC: 70%).
- `ended_lines`: share of lines that end a sentence: a Chinese or Western full stop, question or exclamation mark,
  ellipsis, colon, semicolon or comma (verse), then any closing quotation marks and brackets.
- `mean_line`: characters a line (EvalWeb: at least 10).
- `stop_characters`: share of the most frequent function characters, modern and classical, in both scripts, among Han
  characters: the counterpart of Gopher's stop words.
- `traditional`: among characters of one script only, the share of traditional ones. A character belongs to one script
  if only GB 2312 has it (simplified) or only the frequent half of Big5 (traditional).
- `missing_stop_characters`: how many fewer of those there are than 4% of the Han characters. A poem of forty
  characters may have none, a page of a thousand may not.
"""

from __future__ import annotations

import functools
import sys

import numpy as np

from luhuo.corpus.signals.batch import Batch, Values, ratio
from luhuo.corpus.signals.characters import ALPHA, Mask
from luhuo.corpus.signals.damage import big5_frequent

ENDS = "。！？…；：，、．.!?;:,—～"
CLOSING = "”’」』）)】》〉〕］\"'*`_"
FUNCTION = "的了是在和有不我他她它这那就也都与及为以于或对等上中之其而者所则乃曰矣哉焉无無為與於這們们對来來個个会會可"
MOST_CLOSING = 4
EXPECTED = 0.04
"""The share of function characters: real prose has 8 to 30%, classical verse 0 to 20%."""


def measure(batch: Batch) -> Values:
    """Signals of the family `chinese`."""
    lines = batch.lines
    count = batch.count_of(lines.documents)
    letters = batch.per_document(batch.of_kind(ALPHA))
    stops = batch.per_document(batch.among(FUNCTION))
    simplified, traditional = (batch.per_document(np.take(table, batch.codes)) for table in scripts())
    return {
        "han": ratio(batch.han, letters),
        "ended_lines": ratio(batch.count_of(lines.documents[ended(batch)]), count),
        "mean_line": ratio(batch.total(lines.documents, lines.lengths), count),
        "stop_characters": ratio(stops, batch.han),
        "traditional": ratio(traditional, simplified + traditional),
        "missing_stop_characters": np.maximum(EXPECTED * batch.han - stops, 0),
    }


def ended(batch: Batch) -> Mask:
    """Which lines end a sentence or a clause, whatever closes after the mark."""
    lines = batch.lines
    if not len(lines):
        return np.zeros(0, bool)
    closing, marks = batch.among(CLOSING), batch.among(ENDS)
    last = lines.ends - 1
    for _ in range(MOST_CLOSING):
        last = np.where(closing[last] & (last > lines.starts), last - 1, last)
    return marks[last]


@functools.cache
def scripts() -> tuple[Mask, Mask]:
    """Tables of the characters of the simplified and of the traditional script alone."""
    simplified, traditional = np.zeros(sys.maxunicode + 1, bool), np.zeros(sys.maxunicode + 1, bool)
    gb = {row.decode("gb2312", "ignore") for row in _rows(0xB0, 0xF8)}
    big5 = set(big5_frequent())
    every_big5 = {c for c in gb if c.encode("big5", "ignore")}
    simplified[[ord(c) for c in gb - every_big5 if len(c) == 1]] = True
    traditional[[ord(c) for c in big5 - gb if len(c) == 1 and 0x4E00 <= ord(c) <= 0x9FFF]] = True
    return simplified, traditional


def _rows(first: int, last: int) -> list[bytes]:
    return [bytes((lead, trail)) for lead in range(first, last) for trail in range(0xA1, 0xFF)]
