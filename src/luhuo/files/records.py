"""What a reader yields: a record, or a line that could not be read, with the reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

EXCERPT = 200
"""Characters of a broken line that are kept for the person who looks at it."""

UNIT_BYTES = 64 * 2**20
"""The largest line, JSON element, or HTML page that is held in memory; a larger one is reported as broken."""


@dataclass(frozen=True, slots=True)
class Record:
    """One text with the other fields that came with it."""

    text: str
    file: str
    line: int
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Broken:
    """Something that could not be read. `reason` is a code: bad_json, bad_encoding, missing_field, not_text, …"""

    file: str
    line: int
    reason: str
    excerpt: str


def broken(file: str, line: int, reason: str, content: object = "") -> Broken:
    """A `Broken` whose excerpt is short and can be written as UTF-8."""
    return Broken(file, line, reason, str(content)[:EXCERPT].encode("utf-8", "replace").decode("utf-8"))


def record(text: str, file: str, line: int, fields: dict[str, Any] | None = None) -> Record | Broken:
    """A record, or what is wrong with its text: it is empty or cannot be written as UTF-8."""
    if not is_unicode(text):
        return broken(file, line, "bad_encoding", text)
    if not text.strip():
        return broken(file, line, "empty")
    return Record(text, file, line, fields if fields is not None else {})


def is_unicode(text: str) -> bool:
    """Whether the text can be written as UTF-8 (half of a surrogate pair, as JSON escapes can hold, cannot)."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
