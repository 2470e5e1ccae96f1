"""WikiText pages as prose: the blanks that its tokeniser put in are taken out, by the harnesses' common rules."""

from __future__ import annotations

import re
from typing import Any

BEFORE = (("s '", "s'"),)
PLAIN = (
    (" @-@ ", "-"),
    (" @,@ ", ","),
    (" @.@ ", "."),
    *((f" {mark} ", f"{mark} ") for mark in ":;.!?,"),
)
PAIRED = (
    (r"\(", r"\)", r"[^\)]"),
    (r"\[", r"\]", r"[^\]]"),
    (r"{", r"}", r"[^}]"),
    ('"', '"', '[^"]'),
    ("'", "'", "[^']"),
)
AFTER = (
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" ° ", "°"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
)


def detokenised(page: str) -> str:
    """The page as the model reads it."""
    for old, new in (*BEFORE, *PLAIN):
        page = page.replace(old, new)
    for opening, closing, inner in PAIRED:
        pattern = rf"{opening}\s*({inner}*?)\s*{closing}"
        page = re.sub(pattern, lambda m, o=opening, c=closing: o[-1] + m[1] + c[-1], page)
    for old, new in AFTER:
        page = page.replace(old, new)
    return page


def prepare(row: dict[str, Any]) -> dict[str, Any]:
    """`text` is what is scored."""
    return row | {"text": detokenised(row["page"])}
