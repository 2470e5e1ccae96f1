"""Chinese counterparts of the English rules, which see one endless word where Chinese has sentences.

- `han`: share of Han characters among letters (EvalWeb, arXiv 2311.01149, section 3.1: 30%; MNBVC: 70%).
- `ended_lines`: share of lines that end a sentence: a Chinese or Western full stop, question or exclamation mark,
  ellipsis, colon, semicolon or comma (verse), then any closing quotation marks and brackets.
- `mean_line`: characters a line (EvalWeb: at least 10).
- `stop_characters`: share of the most frequent function characters, modern and classical, in both scripts, among Han
  characters: the counterpart of Gopher's stop words.
- `traditional`: among characters of one script only (`files.characters`), the share of traditional ones.
- `missing_stop_characters`: how many fewer of those there are than 4% of the Han characters. A poem of forty
  characters may have none, a page of a thousand may not.
"""

from __future__ import annotations

import numpy as np

from luhuo.corpus.signals.batch import Batch, Values, ratio
from luhuo.corpus.signals.characters import ALPHA, Mask
from luhuo.files.characters import SIMPLIFIED, TRADITIONAL

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
    simplified, traditional = (batch.per_document(batch.among(script)) for script in (SIMPLIFIED, TRADITIONAL))
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
    last = lines.ends - 1
    for _ in range(MOST_CLOSING):
        last = np.where(batch.among(CLOSING, last) & (last > lines.starts), last - 1, last)
    return batch.among(ENDS, last)
