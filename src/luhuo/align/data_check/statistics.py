"""Figures of a data set: tokens, targets, turns, languages, and a histogram of lengths."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from luhuo.align.data_check.samples import Sample
from luhuo.dialogue.render import Rendered
from luhuo.verify.script import language_of

BARS = 12
"""Bars of a histogram at most."""
SAMPLE_CHARS = 2000
"""Characters of a row from which its language is told."""


@dataclass
class Statistics:
    """Sums over all rows; twelve bytes a row are kept for the lengths."""

    rows: int = 0
    turns: Counter[int] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    labels: Counter[bool] = field(default_factory=Counter)
    lengths: array[int] = field(default_factory=lambda: array("I"))
    targets: array[int] = field(default_factory=lambda: array("I"))
    longer_chosen: int = 0
    unequal: int = 0
    """Pairs whose answers differ in length."""

    def see(self, sample: Sample) -> None:
        """Count a row's texts."""
        self.rows += 1
        self.languages[language_of(sample.whole()[:SAMPLE_CHARS]) or "–"] += 1
        if sample.conversations:
            self.turns[sum(m.role == "assistant" for m in sample.conversations[0].messages)] += 1
        if sample.label is not None:
            self.labels[sample.label] += 1

    def see_lengths(self, parts: Sequence[Rendered]) -> None:
        """Count the tokens of a row's renderings."""
        for part in parts:
            self.lengths.append(len(part))
            self.targets.append(part.targets)

    def see_pair(self, chosen: int, rejected: int) -> None:
        """Count the targets of the two answers of a pair."""
        self.unequal += chosen != rejected
        self.longer_chosen += chosen > rejected

    @property
    def tokens(self) -> int:
        """All tokens."""
        return int(np.sum(self.lengths, dtype=np.int64)) if self.lengths else 0

    @property
    def supervised(self) -> int:
        """Tokens that are targets."""
        return int(np.sum(self.targets, dtype=np.int64)) if self.targets else 0

    def percentiles(self) -> dict[str, int]:
        """Tokens of a conversation: median, 90th and 99th percentile, longest."""
        if not self.lengths:
            return {}
        values = np.percentile(np.array(self.lengths), [50, 90, 99, 100])
        return dict(zip(("median", "90%", "99%", "max"), (int(v) for v in values), strict=True))

    def histogram(self) -> list[tuple[str, int]]:
        """(range of tokens, conversations) in steps that double."""
        if not self.lengths:
            return []
        lengths = np.array(self.lengths)
        highest = math.ceil(math.log2(max(int(lengths.max()), 2)))
        lowest = max(0, highest - BARS + 1)
        bars = []
        for power in range(lowest, highest + 1):
            low, high = (0 if power == lowest else 2 ** (power - 1) + 1), 2**power
            count = int(((lengths >= low) & (lengths <= high)).sum())
            if bars or count:
                bars.append((f"{low}–{high}", count))
        return bars
