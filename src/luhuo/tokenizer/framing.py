"""Tokens that a model expects around a whole text: `<s> …`, `… </s>`, `[CLS] … [SEP]`."""

from __future__ import annotations

import tokenizers
from tokenizers import processors


def frame(core: tokenizers.Tokenizer, before: list[str], after: list[str]) -> None:
    """Make `core` put these tokens before and after a whole text, those of them that the vocabulary has."""
    ids = {token: number for token in (*before, *after) if (number := core.token_to_id(token)) is not None}
    opening, closing = [t for t in before if t in ids], [t for t in after if t in ids]
    core.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=[*opening, "$A", *closing],
        pair=[*opening, "$A", *closing, "$B:1", *(f"{t}:1" for t in closing)],
        special_tokens=list(ids.items()),
    )
