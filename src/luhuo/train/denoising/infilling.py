"""Text infilling and sentence permutation: a spoilt text is read, the whole text is written (Lewis et al. 2020).

Spans of Poisson(3) tokens become one mask each, a span of none is a mask put in between; so the model has to find out
how much is missing (section 2.2). Before that the sentences may change places; the token that ends them stays with
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from luhuo.corpus.fragments import Fragment
from luhuo.corpus.rows import Row
from luhuo.train.denoising.config import InfillingConfig
from luhuo.train.denoising.span_corruption import pair_row


@dataclass(frozen=True)
class InfillingFrame:
    """Ids that infilling needs."""

    first: int
    end: int
    mask: int
    pad: int
    start: int
    """What the decoder starts from."""
    sentence_ends: np.ndarray
    """(vocab,) bool."""


class InfillingNoise:
    """Rows {"ids", "segments"} and {"decoder_ids", "decoder_segments", "targets"}, all (width,)."""

    def __init__(self, width: int, frame: InfillingFrame, config: InfillingConfig) -> None:
        self.widths, self.frame, self.config = (width, width), frame, config

    def costs(self, most: int) -> list[list[int]]:
        """The text and its frame on either side: what is read is never longer than what is written."""
        return [[n + 2 for n in range(most + 1)]] * 2

    def row(self, fragments: Sequence[Fragment], random: np.random.Generator) -> Row:
        """One row: each fragment spoilt, and as it was."""
        first, end = np.array([self.frame.first]), np.array([self.frame.end])
        read, written = [], []
        for fragment in fragments:
            spoilt = self._permuted(fragment.ids, random)
            read.append(np.concatenate([first, self._infilled(spoilt, random), end]))
            written.append(np.concatenate([first, fragment.ids, end]))
        return pair_row(read, written, self.widths, pad=self.frame.pad, start=self.frame.start)

    def _permuted(self, ids: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Its sentences in random order, with the configured chance."""
        if random.random() >= self.config.permute:
            return ids
        borders = np.flatnonzero(self.frame.sentence_ends[ids[:-1]]) + 1
        sentences = np.split(ids, borders)
        return np.concatenate([sentences[i] for i in random.permutation(len(sentences))])

    def _infilled(self, ids: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Spans replaced by one mask each, until the configured share of the tokens is gone."""
        budget = int(self.config.rate * len(ids) + random.random())
        lengths: list[int] = []
        while sum(lengths) < budget:
            lengths.append(min(int(random.poisson(self.config.mean)), budget - sum(lengths)))
        random.shuffle(lengths)  # the one that was cut to fit is not always the last
        kept = len(ids) - sum(lengths)
        # A text no longer than before: where there are more masks than tokens gone, those of empty spans are left out.
        empty = [length for length in lengths if not length][: max(0, sum(lengths) - sum(map(bool, lengths)))]
        spans = [length for length in lengths if length]
        spans = [spans[i] if i < len(spans) else 0 for i in random.permutation(len(spans) + len(empty))]
        # The spans' places among the tokens that stay: two may meet, then their masks stand side by side.
        places = np.sort(random.integers(0, kept + 1, len(spans)))
        found, at, stay = [], 0, 0
        for place, length in zip(places, spans, strict=True):
            found += [ids[at : at + place - stay], np.array([self.frame.mask])]
            at, stay = at + int(place) - stay + length, int(place)
        return np.concatenate([*found, ids[at:]])
