"""C4's signals: Raffel et al. 2020 (arXiv 1910.10683), section 2.2.

C4 keeps lines that end in a terminal punctuation mark and have at least five words, drops lines with "javascript" and
with policy notices, and drops pages with fewer than three such sentences (five in the first version), with a curly
bracket, or with "lorem ipsum". Here nothing is cut: each rule is the share of lines, or the count, it would act on.
"""

from __future__ import annotations

import functools

import numpy as np

from luhuo.corpus.signals.batch import Batch, Integers, Spans, Values, ratio
from luhuo.corpus.signals.characters import Mask
from luhuo.corpus.signals.phrases import Phrases

TERMINAL = ".!?\"'”’"
SENTENCE_ENDS = ".!?"
FEWEST_WORDS = 5
POLICIES = (
    "terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies",
)  # fmt: skip
PHRASES = {"javascript": ("javascript",), "policy": POLICIES, "lorem": ("lorem ipsum",)}


def measure(batch: Batch) -> Values:
    """Signals of the family `c4`."""
    lines = batch.lines
    count = batch.count_of(lines.documents)
    spans, groups = _phrases().find(batch)
    script, policy, lorem = (
        Spans(spans.starts[groups == g], spans.ends[groups == g], spans.documents[groups == g]) for g in range(3)
    )
    return {
        "terminal_lines": ratio(batch.count_of(lines.documents[ends_in(batch, TERMINAL)]), count),
        "short_lines": ratio(batch.count_of(lines.documents[_words_of(batch) < FEWEST_WORDS]), count),
        "javascript_lines": ratio(lines_with(batch, script), count),
        "policy_lines": ratio(lines_with(batch, policy), count),
        "lorem_ipsum": batch.count_of(lorem.documents),
        "sentences": _sentences(batch),
        "curly_brackets": batch.per_document(batch.codes == np.uint32(ord("{"))),
    }


@functools.cache
def _phrases() -> Phrases:
    return Phrases(PHRASES)


def ends_in(batch: Batch, marks: str) -> Mask:
    """Which lines end in one of these."""
    return batch.among(marks, batch.lines.ends - 1)


def lines_with(batch: Batch, spans: Spans) -> Integers:
    """How many lines of each document hold one of the spans."""
    held = np.zeros(len(batch.lines), bool)
    if len(spans) and len(held):
        held[np.maximum(np.searchsorted(batch.lines.starts, spans.starts, side="right") - 1, 0)] = True
    return batch.count_of(batch.lines.documents[held])


def _words_of(batch: Batch) -> Integers:
    """Words of each line."""
    places = np.searchsorted(batch.words.starts, batch.lines.starts)
    return np.searchsorted(batch.words.starts, batch.lines.ends) - places


def _sentences(batch: Batch) -> Integers:
    """Sentences of each document: full stops, exclamation and question marks (of "?!" the last) before a blank, a
    quotation mark or a bracket."""
    places = np.flatnonzero(batch.among(SENTENCE_ENDS))  # the last character is a line feed, so one follows
    places = places[batch.among(" \t\n\u00a0\u3000\"'”’)]»", places + 1)]
    return batch.count_of(batch.document_of(places))
