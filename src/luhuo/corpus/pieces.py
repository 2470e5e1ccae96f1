"""Long texts in pieces that end at paragraph borders."""

from __future__ import annotations

import re
from collections.abc import Iterator

BORDERS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"[。！？!?…]+[”’」』\"]?|\.\s"))
"""Where a text may be cut, best first: between paragraphs, between lines, after a sentence."""


def pieces(text: str, length: int) -> Iterator[str]:
    """Cut `text` into pieces of at most `length` characters; joined, they are the text but for blank at the cuts.

    Each cut is at the best kind of border found in the second half of a piece, and else at `length`.
    """
    start = 0
    while len(text) - start > length:
        end = _cut(text, start + length // 2, start + length)
        if piece := text[start:end].strip():
            yield piece
        start = end
    if piece := text[start:].strip():
        yield piece


def _cut(text: str, low: int, high: int) -> int:
    for border in BORDERS:
        ends = [match.end() for match in border.finditer(text, low, high)]
        if ends:
            return ends[-1]
    return high
