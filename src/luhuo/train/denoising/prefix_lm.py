"""Prefix language modelling and blank infilling: a part that sees itself both ways, then a part that is written.

    end     some text that [gMASK] <sop> goes on here …
    middle  some [MASK] goes on <sop> text that <|endoftext|>

After GLM (Du et al. 2022, section 2.1): the part in front of <sop> is read in both directions (`model/prefix.py`),
what stands behind is the target, in the place of the mask. Where a middle is written, it ends with the end of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from luhuo.corpus.fragments import Fragment
from luhuo.corpus.rows import Row
from luhuo.train.denoising.config import PrefixConfig


@dataclass(frozen=True)
class PrefixFrame:
    """Ids that prefix rows need."""

    gap: int
    """Stands for the end that is to be written."""
    mask: int
    """Stands for a middle."""
    begin: int
    """Ends the prefix: `prefix_end` of the model."""
    end: int
    pad: int


class PrefixNoise:
    """Rows {"ids", "segments", "mask"} of `CausalLM`, each (width + 1,)."""

    def __init__(self, width: int, frame: PrefixFrame, config: PrefixConfig) -> None:
        self.widths, self.frame, self.config = (width + 1,), frame, config

    def costs(self, most: int) -> list[list[int]]:
        """The text, what stands for the gap, what ends the prefix, and the end."""
        return [[n + 3 for n in range(most + 1)]]

    def row(self, fragments: Sequence[Fragment], random: np.random.Generator) -> Row:
        """One row: each fragment with a part to write."""
        texts = [self._divided(fragment, random) for fragment in fragments]
        return causal_row(texts, self.widths[0], self.frame.pad)

    def _divided(self, fragment: Fragment, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        ids, frame = fragment.ids, self.frame
        middle = len(ids) > 2 and random.random() < self.config.middle
        if middle:
            start, stop = np.sort(random.choice(np.arange(1, len(ids)), 2, replace=False))
            read = [ids[:start], [frame.mask], ids[stop:], [frame.begin]]
            written = [ids[start:stop], [frame.end]]
        else:
            start = int(random.integers(0, len(ids)))
            read = [ids[:start], [frame.gap, frame.begin]]
            written = [ids[start:], [frame.end] if fragment.ends else []]
        text = np.concatenate([*read, *written]).astype(np.int64)
        return text, np.arange(len(text)) >= sum(map(len, read))


def causal_row(texts: Sequence[tuple[np.ndarray, np.ndarray]], width: int, pad: int) -> Row:
    """A row for `CausalLM` of (ids, which of them are targets)."""
    row: Row = {
        "ids": np.full(width, pad, np.int64),
        "segments": np.zeros(width, np.int32),
        "mask": np.zeros(width, np.int8),
    }
    at = 0
    for number, (ids, targets) in enumerate(texts, 1):
        where = slice(at, at + len(ids))
        row["ids"][where], row["segments"][where], row["mask"][where] = ids, number, targets
        at += len(ids)
    return row
