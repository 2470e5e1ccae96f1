"""The program in a reply."""

from __future__ import annotations

import re

from luhuo.verify.answers import split_reasoning

_BLOCK = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[^\n]*\n(.*?)^[ \t]*```[ \t]*$", re.S | re.M)


def code_of(text: str, languages: tuple[str, ...] = ("python", "py", "python3", "")) -> tuple[str | None, str]:
    """(strict, lenient): the last fenced block in one of the languages after the reasoning, or None; and that block,
    or where there is none everything that is said."""
    said = split_reasoning(text)[1]
    blocks = [body for name, body in _BLOCK.findall(said) if name.casefold() in languages]
    return (blocks[-1], blocks[-1]) if blocks else (None, said)
