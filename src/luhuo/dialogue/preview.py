"""One rendered conversation for human eyes, with the loss mask visible."""

from __future__ import annotations

from itertools import groupby

from luhuo.dialogue.render import Rendered
from luhuo.tokenizer.tokenizer import Tokenizer

GREEN, PLAIN = "\x1b[32m", "\x1b[0m"


def preview(rendered: Rendered, tokenizer: Tokenizer, *, colour: bool) -> str:
    """The text with its targets green, or between ⟦ and ⟧ where there is no colour."""
    before, after = (GREEN, PLAIN) if colour else ("⟦", "⟧")
    parts = []
    for target, run in groupby(zip(rendered.ids, rendered.mask, strict=True), key=lambda pair: pair[1]):
        text = printable(tokenizer.decode([token for token, _ in run]))
        parts.append(f"{before}{text}{after}" if target else text)
    return "".join(parts)


def printable(text: str) -> str:
    """The text with control characters as U+FFFD: neither data nor a model's answer may drive the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
