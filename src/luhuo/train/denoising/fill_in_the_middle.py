"""Fill-in-the-middle: a text is rearranged so that a causal model learns to write its middle (Bavarian et al. 2022).

    PSM  <|fim_prefix|> prefix <|fim_suffix|> suffix <|fim_middle|> middle <|endoftext|>
    SPM  <|fim_prefix|> <|fim_suffix|> suffix <|fim_middle|> prefix middle <|endoftext|>

Each fragment of a row is rearranged by itself, after packing (their "context level", section 4.2), so document borders
stay. The two cuts are uniform over the characters: a model that saw cuts between tokens only fails where a user's
cursor stands inside one (section 4.4). Parts are then tokenised anew, each by itself; where that does not fit in the
row, or the fragment begins inside a character, the cuts lie between tokens. The tokens that mark the parts' places
are no targets: where they fall is our own throw of the dice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from luhuo.corpus.fragments import Fragment
from luhuo.corpus.rows import Row
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.train.denoising.config import FimConfig
from luhuo.train.denoising.prefix_lm import causal_row

Parts = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class FimFrame:
    """Ids that fill-in-the-middle needs."""

    prefix: int
    suffix: int
    middle: int
    end: int
    pad: int


class FimNoise:
    """Rows {"ids", "segments", "mask"} of `CausalLM`, each (width + 1,).

    The `tokenizer` is for cuts between characters. With `only_middle` all texts are rearranged, and nothing but the
    middle is a target: for measuring.
    """

    def __init__(
        self,
        width: int,
        frame: FimFrame,
        config: FimConfig,
        tokenizer: Tokenizer | None = None,
        *,
        only_middle: bool = False,
    ) -> None:
        self.widths, self.frame, self.config = (width + 1,), frame, config
        self.tokenizer, self.only_middle = tokenizer, only_middle

    def costs(self, most: int) -> list[list[int]]:
        """The text, three marks, and the end."""
        return [[n + 4 for n in range(most + 1)]]

    def row(self, fragments: Sequence[Fragment], random: np.random.Generator) -> Row:
        """One row: each fragment rearranged, or as it is."""
        texts, spare = [], self.widths[0] - sum(len(fragment.ids) + 4 for fragment in fragments)
        for fragment in fragments:
            if random.random() < self.config.rate or self.only_middle:
                parts = self._divided(fragment.ids, spare, random)
                spare -= sum(map(len, parts)) - len(fragment.ids)
                texts.append(self._rearranged(parts, random.random() < self.config.spm))
            else:
                end = [self.frame.end] if fragment.ends else []
                text = np.concatenate([fragment.ids, end]).astype(np.int64)
                texts.append((text, np.ones(len(text), bool)))
        return causal_row(texts, self.widths[0], self.frame.pad)

    def _divided(self, ids: np.ndarray, spare: int, random: np.random.Generator) -> Parts:
        """Prefix, middle and suffix, at most `spare` tokens longer than before."""
        text = self._text(ids) if self.config.split == "characters" else None
        if self.tokenizer is not None and text is not None:
            one, other = np.sort(random.integers(0, len(text) + 1, 2))
            pieces = self.tokenizer.encode_batch([text[:one], text[one:other], text[other:]])
            if sum(map(len, pieces)) <= len(ids) + max(spare, 0):
                prefix, middle, suffix = (np.array(piece, np.int64) for piece in pieces)
                return prefix, middle, suffix
        one, other = np.sort(random.integers(0, len(ids) + 1, 2))
        return ids[:one], ids[one:other], ids[other:]

    def _text(self, ids: np.ndarray) -> str | None:
        """The fragment as text, or None if that would not give the same tokens again."""
        if self.tokenizer is None:
            return None
        text = self.tokenizer.decode(ids.tolist())
        return text if self.tokenizer.encode(text) == ids.tolist() else None

    def _rearranged(self, parts: Parts, spm: bool) -> tuple[np.ndarray, np.ndarray]:
        prefix, middle, suffix = parts
        frame = self.frame
        before = [[frame.prefix, frame.suffix], suffix, [frame.middle], prefix] if spm else None
        before = before or [[frame.prefix], prefix, [frame.suffix], suffix, [frame.middle]]
        text = np.concatenate([*before, middle, [frame.end]]).astype(np.int64)
        if self.only_middle:
            return text, np.arange(len(text)) >= sum(map(len, before))
        return text, ~np.isin(text, (frame.prefix, frame.suffix, frame.middle))
