"""Lines about the page instead of its subject, navigation, and advertising; in either language.

- `lines`: share of lines with a phrase of `lexicon/boilerplate.yaml` that is no small part of the line: a sentence of
  a hundred characters that says "click here" is text.
- `characters`: the same by characters.
- `navigation`: share of lines that are part of a menu: three and more short pieces between bars or arrows.
- `advertising`: phrases of `lexicon/advertising.yaml` per hundred units (words; Chinese: characters), counted from the
  second different one on: 0 for a text with one.
"""

from __future__ import annotations

import numpy as np

from luhuo.corpus.signals.batch import Batch, Integers, Values, ratio
from luhuo.corpus.signals.characters import Mask
from luhuo.corpus.signals.phrases import compiled

SHARE = 5
"""A phrase marks a line that is at most this many times as long."""
BARS = "|｜»›>•"
PIECES = 3
LONGEST_PIECE = 12


def measure(batch: Batch) -> Values:
    """Signals of the family `boilerplate`."""
    lines = batch.lines
    count, chars = batch.count_of(lines.documents), batch.total(lines.documents, lines.lengths)
    marked = _marked(batch)
    return {
        "lines": ratio(batch.count_of(lines.documents[marked]), count),
        "characters": ratio(batch.total(lines.documents[marked], lines.lengths[marked]), chars),
        "navigation": ratio(batch.count_of(lines.documents[_menu(batch)]), count),
        "advertising": 100 * ratio(_advertising(batch), batch.count_of(batch.units.documents)),
    }


def _marked(batch: Batch) -> Mask:
    """Which lines hold phrases that make up a fifth of them."""
    lines = batch.lines
    spans, _ = compiled("boilerplate", batch.lang).find(batch)
    held = np.zeros(len(lines), np.int64)
    if len(spans):
        np.add.at(held, np.maximum(np.searchsorted(lines.starts, spans.starts, side="right") - 1, 0), spans.lengths)
    return held * SHARE >= np.maximum(lines.lengths, 1)


def _menu(batch: Batch) -> Mask:
    """Which lines are short pieces between bars. Tables of Markdown begin with a bar, and are none."""
    lines = batch.lines
    bars = np.flatnonzero(batch.among(BARS))
    pieces = np.searchsorted(bars, lines.ends) - np.searchsorted(bars, lines.starts) + 1
    table = batch.among("|#`$", lines.starts)
    return (pieces > PIECES) & (lines.lengths <= pieces * LONGEST_PIECE) & ~table


def _advertising(batch: Batch) -> Integers:
    """Phrases that sell in each document, where there are two different ones."""
    spans, _ = compiled("advertising", batch.lang).find(batch)
    if not len(spans):
        return np.zeros(batch.count, np.int64)
    keys = (batch.hashes(spans) >> np.uint64(16)) | (spans.documents.astype(np.uint64) << np.uint64(48))
    different = batch.count_of((np.unique(keys) >> np.uint64(48)).astype(np.int64))
    return np.where(different > 1, batch.count_of(spans.documents), 0)
