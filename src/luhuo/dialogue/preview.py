"""One rendered conversation for human eyes, with the loss mask visible."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from luhuo.dialogue.render import Rendered
from luhuo.tokenizer.tokenizer import Tokenizer

GREEN, PLAIN = "\x1b[32m", "\x1b[0m"


def preview(rendered: Rendered, tokenizer: Tokenizer, *, colour: bool) -> str:
    """The text with its targets green, or between ⟦ and ⟧ where there is no colour; a weight other than 1 is told."""
    before, after = (GREEN, PLAIN) if colour else ("⟦", "⟧")
    parts = []
    for text, weight in runs(rendered, tokenizer):
        told = "" if weight in (0, 1) else f"×{weight:g} "
        parts.append(f"{before}{told}{text}{after}" if weight else text)
    return "".join(parts)


def runs(rendered: Rendered, tokenizer: Tokenizer) -> Iterator[tuple[str, float]]:
    """(text, weight in the loss) of each run of tokens that count alike; 0 is context."""
    weights = rendered.weights or rendered.mask
    for weight, run in groupby(zip(rendered.ids, weights, strict=True), key=lambda pair: pair[1]):
        yield printable(tokenizer.decode([token for token, _ in run])), float(weight)


def printable(text: str) -> str:
    """The text with control characters as U+FFFD: neither data nor a model's answer may drive the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
