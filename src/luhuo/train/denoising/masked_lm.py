"""Masked language modelling: some tokens are hidden, an encoder says what they were (Devlin et al. 2019, section 3.1).

Of the chosen tokens 80% become the mask, 10% a random token, 10% stay. They are chosen anew each time a text is read
(dynamic masking, Liu et al. 2019, section 4.1). Each fragment stands as [CLS] … [SEP]; with a second task of pairs as
[CLS] first [SEP] second [SEP], where the second is from elsewhere (BERT) or comes first (ALBERT) half of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from luhuo.corpus.fragments import Fragment
from luhuo.corpus.rows import Row
from luhuo.train.denoising.config import MaskedConfig
from luhuo.train.denoising.words import Words


@dataclass(frozen=True)
class MaskedFrame:
    """Ids that a masked row needs."""

    first: int
    last: int
    mask: int
    pad: int
    ordinary: np.ndarray
    """Ids that may stand in for another: all but special ones."""


class MaskedNoise:
    """Rows {"ids", "segments", "targets", "mask"}, each (width,); with pairs also "types" and "relation".

    `mask` is 1 where the token is to be told; `targets` are the ids as they were. `relation` is, at the first token of
    a pair, 0 (as in the text) or 1 (from elsewhere, or exchanged), and -1 everywhere else.
    """

    def __init__(
        self,
        width: int,
        frame: MaskedFrame,
        config: MaskedConfig,
        *,
        words: Words | None = None,
        elsewhere: Callable[[np.random.Generator, int], np.ndarray] | None = None,
    ) -> None:
        self.widths, self.frame, self.config, self.words = (width,), frame, config, words
        self.elsewhere = elsewhere
        """Gives at most n tokens of some other place; only needed for `relation: next`."""

    def costs(self, most: int) -> list[list[int]]:
        """The tokens and their frame."""
        frame = 2 if self.config.relation == "none" else 3
        return [[n + frame for n in range(most + 1)]]

    def row(self, fragments: Sequence[Fragment], random: np.random.Generator) -> Row:
        """One row: each fragment framed, then masked."""
        width, pairs = self.widths[0], self.config.relation != "none"
        found: Row = {
            "ids": np.full(width, self.frame.pad, np.int64),
            "segments": np.zeros(width, np.int32),
            "targets": np.full(width, self.frame.pad, np.int64),
            "mask": np.zeros(width, np.int8),
        }
        if pairs:
            found |= {"types": np.zeros(width, np.int64), "relation": np.full(width, -1, np.int64)}
        at = 0
        for number, fragment in enumerate(fragments, 1):
            text, types, label = self._framed(fragment.ids, random)
            where = slice(at, at + len(text))
            found["segments"][where] = number
            found["targets"][where] = text
            found["ids"][where], found["mask"][where] = self._masked(text, random)
            if pairs:
                found["types"][where], found["relation"][at] = types, label
            at += len(text)
        return found

    def _framed(self, ids: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
        """The text in its frame, its types, and how its two parts belong together (-1: it has no two)."""
        first, last = np.array([self.frame.first]), np.array([self.frame.last])
        if self.config.relation == "none" or len(ids) < 2:
            text = np.concatenate([first, ids, last])
            return text, np.zeros(len(text), np.int64), -1
        cut = int(random.integers(1, len(ids)))
        one, other = ids[:cut], ids[cut:]
        label = int(random.random() < 0.5)
        if label and self.config.relation == "order":
            one, other = other, one
        elif label:
            assert self.elsewhere is not None
            other = self.elsewhere(random, len(other))
        text = np.concatenate([first, one, last, other, last])
        return text, (np.arange(len(text)) >= len(one) + 2).astype(np.int64), label

    def _masked(self, text: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The text with its chosen tokens replaced, and which those are."""
        content = np.flatnonzero((text != self.frame.first) & (text != self.frame.last))
        budget = int(self.config.rate * len(content) + random.random())  # its mean is the rate, however short the text
        chosen = self._choose(text, content, budget, random)
        changed, mask = text.copy(), np.zeros(len(text), np.int8)
        mask[chosen] = 1
        kind = random.random(len(chosen))
        changed[chosen[kind < self.config.masked]] = self.frame.mask
        other = chosen[(kind >= self.config.masked) & (kind < self.config.masked + self.config.random)]
        changed[other] = random.choice(self.frame.ordinary, len(other))
        return changed, mask

    def _choose(self, text: np.ndarray, content: np.ndarray, budget: int, random: np.random.Generator) -> np.ndarray:
        """Positions of `budget` tokens; of whole words, each that does not exceed what is left of the budget."""
        if self.words is None:
            return np.sort(random.permutation(content)[:budget])
        numbers = self.words.numbers(text)[content]
        names, starts, sizes = np.unique(numbers, return_index=True, return_counts=True)
        chosen: list[np.ndarray] = []
        for word in random.permutation(len(names)):
            if not budget:
                break
            if sizes[word] <= budget:
                chosen.append(content[starts[word] : starts[word] + sizes[word]])
                budget -= int(sizes[word])
        return np.sort(np.concatenate(chosen)) if chosen else content[:0]
