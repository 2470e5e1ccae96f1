"""How well a tokenizer compresses: the figures that model papers print."""

from __future__ import annotations

import re
from dataclasses import dataclass

HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


@dataclass
class Efficiency:
    """Counts over texts and their tokens."""

    tokens: int = 0
    chars: int = 0
    bytes: int = 0
    han: int = 0
    words: int = 0

    def add(self, text: str, ids: list[int]) -> None:
        """Count one text and its tokens."""
        han = len(HAN.findall(text))
        self.tokens += len(ids)
        self.chars += len(text)
        self.bytes += len(text.encode())
        self.han += han
        self.words += sum(1 for word in WORD.findall(text) if not HAN.search(word))

    def ratios(self) -> dict[str, float]:
        """Bytes, characters and words per token (words: runs of letters that hold no Han character)."""
        tokens = max(self.tokens, 1)
        return {
            "bytes_per_token": self.bytes / tokens,
            "chars_per_token": self.chars / tokens,
            "words_per_token": self.words / tokens,
        }
