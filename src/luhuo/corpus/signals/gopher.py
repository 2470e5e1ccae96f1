"""Gopher's quality signals: Rae et al. 2021 (arXiv 2112.11446), appendix A.1.1, "Quality Filtering".

A word is what stands between blanks. The paper's rules: 50 to 100,000 words, a mean word length of 3 to 10 characters,
at most one "#" and one ellipsis to ten words, fewer than 90% of lines that begin with a bullet, at most 30% that end
with an ellipsis, 80% of words with a letter, and two of eight stop words.

`missing_stop_words` is ours: how many fewer stop words there are than 6% of the words with letters. A short text may
have none by chance, a long one may not.
"""

from __future__ import annotations

import functools

import numpy as np

from luhuo.corpus.signals.batch import Batch, Integers, Values, ratio, text_hash
from luhuo.corpus.signals.characters import ALPHA

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
BULLETS = "•‣▶◀◦■□▪▫–*-●○·"
EXPECTED = 0.06
"""The share of the eight stop words: real prose has 12 to 20%."""


def measure(batch: Batch) -> Values:
    """Signals of the family `gopher`."""
    words, lines = batch.words, batch.lines
    count, line_count = batch.count_of(words.documents), batch.count_of(lines.documents)
    letters = np.concatenate(([0], np.cumsum(batch.of_kind(ALPHA), dtype=np.int64)))
    alphabetic = letters[words.ends] > letters[words.starts]
    bullets = batch.among(BULLETS, lines.starts)
    stop_words, different = _stop_words(batch)
    expected = EXPECTED * batch.count_of(words.documents[alphabetic])
    return {
        "words": count,
        "mean_word_length": ratio(batch.total(words.documents, words.lengths), count),
        "hash_words": ratio(batch.per_document(batch.codes == np.uint32(ord("#"))), count),
        "ellipsis_words": ratio(_ellipses(batch), count),
        "bullet_lines": ratio(batch.count_of(lines.documents[bullets]), line_count),
        "ellipsis_lines": ratio(batch.count_of(lines.documents[ends_with_ellipsis(batch)]), line_count),
        "alpha_words": ratio(batch.count_of(words.documents[alphabetic]), count),
        "stop_words": different,
        "missing_stop_words": np.maximum(expected - stop_words, 0),
    }


def ends_with_ellipsis(batch: Batch) -> np.ndarray:
    """Which lines end with "…" or "..."."""
    lines, codes = batch.lines, batch.codes
    if not len(lines):
        return np.zeros(0, bool)
    dot = np.uint32(ord("."))
    last = lines.ends - 1
    dots = (codes[last] == dot) & (codes[last - 1] == dot) & (codes[last - 2] == dot) & (lines.lengths >= 3)
    return dots | (codes[last] == np.uint32(ord("…")))


def _ellipses(batch: Batch) -> Integers:
    """How many ellipses each document has: "…", and each whole "..."."""
    single = batch.per_document(batch.codes == np.uint32(ord("…")))
    dots = batch.codes == np.uint32(ord("."))
    if not dots.any():
        return single
    before = np.concatenate(([False], dots[:-1]))
    starts = np.flatnonzero(dots & ~before)
    ends = np.flatnonzero(before & ~dots)
    long = ends - starts >= 3
    return single + batch.total(batch.document_of(starts[long]), (ends - starts)[long] // 3)


@functools.cache
def _stop_hashes() -> tuple[np.uint64, ...]:
    return tuple(np.uint64(text_hash(word)) for word in STOP_WORDS)


def _stop_words(batch: Batch) -> tuple[Integers, Integers]:
    """How many stop words each document has, and how many different ones of the eight."""
    hashes, documents = batch.word_hashes, batch.words.documents
    every, different = np.zeros(batch.count, np.int64), np.zeros(batch.count, np.int64)
    for wanted in _stop_hashes():
        found = batch.count_of(documents[hashes == wanted])
        every += found
        different += found > 0
    return every, different
