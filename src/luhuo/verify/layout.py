"""Does a reply keep a form: blocks in tags, in order and once; a regular expression; a band of lengths; no repetition.

Sources: the format reward of DeepSeek-R1 (section 2.2.2), soft overlong punishment of DAPO (equation 13), the
n-gram repetition penalty of "Demystifying Long Chain-of-Thought Reasoning" (Yeo et al. 2025, appendix).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"[\u3400-\u9fff\u3040-\u30ff]|[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]")


def in_blocks(text: str, tags: Sequence[str], *, opened: str | None = None) -> bool:
    """Whether a reply is exactly the blocks <a>…</a><b>…</b>…, each once, in this order, none empty, none inside
    another, and nothing but space around them. `opened`: the tag that the prompt has already opened."""
    if opened is not None:
        text = f"<{opened}>" + text.removeprefix(f"<{opened}>")
    names = "|".join(map(re.escape, tags))
    marks = re.findall(rf"<(/?)({names})>", text)
    if marks != [(slash, tag) for tag in tags for slash in ("", "/")]:
        return False
    pieces = re.split(rf"</?(?:{names})>", text)  # before, inside a, between, inside b, …, after
    return all(bool(piece.strip()) == bool(i % 2) for i, piece in enumerate(pieces))


def matches(text: str, pattern: str) -> bool:
    """Whether the whole reply, without outer space, matches a regular expression (a dot matches line ends too)."""
    return re.fullmatch(pattern, text.strip(), re.S) is not None


def overlong(tokens: int, limit: int, margin: int) -> float:
    """0 up to `limit - margin` tokens, then falling evenly to -1 at `limit`, and -1 beyond (DAPO, equation 13)."""
    if margin <= 0:
        return 0.0 if tokens <= limit else -1.0
    return -min(1.0, max(0.0, (tokens - (limit - margin)) / margin))


def in_band(amount: float, low: float, high: float) -> float:
    """1 between `low` and `high`; outside the relative distance is taken off, down to 0 (half or double the bound)."""
    if amount < low:
        return max(0.0, 1 - 2 * (low - amount) / low)
    return 1.0 if amount <= high else max(0.0, 1 - (amount - high) / max(high, 1))


def repeated_share(text: str, n: int) -> float:
    """The share of a text's n-grams that have occurred before in it, 0 to 1. A Chinese character is a word."""
    words = [word.casefold() for word in _WORD.findall(text)]
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
