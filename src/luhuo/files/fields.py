"""The text of a row of a table: a field, several joined, or a conversation as running text.

Here rows become documents for pretraining. What a conversation is, with roles, masks and templates, is the business
of the room `dialogue`; this only joins what was said, without a word of ours between it.
"""

from __future__ import annotations

from typing import Any

CONTENT = ("content", "value", "text")
"""What the text of a message is called: by OpenAI, by ShareGPT, in parts of a message."""

NULL = object()
"""A field that is there and holds nothing, which is not the same as no field."""


def text_at(value: Any, text_field: str) -> Any:
    """What a path names: `text`, `page.body` (dots go into objects), `instruction+input+output` (parts that are there
    and not empty, with blank lines between). A list of messages becomes their contents, with blank lines between; a
    list of strings becomes its lines. None where there is no such field."""
    names = [name.strip() for name in text_field.split("+")]
    if len(names) == 1:
        return _running(_at(value, names[0]))
    parts = [_running(_at(value, name)) for name in names]
    there = [part for part in parts if part is not None and part is not NULL]
    wrong = next((part for part in there if not isinstance(part, str)), None)
    if wrong is not None:
        return wrong
    return "\n\n".join(part for part in there if part.strip()) if there else None


def _at(value: Any, path: str) -> Any:
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value if value is not None else NULL


def _running(value: Any) -> Any:
    """A list of messages or of lines as text; everything else as it is."""
    if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    if not isinstance(value, list) or not value or not all(isinstance(message, dict) for message in value):
        return value
    said = [_said(message) for message in value]
    return "\n\n".join(text.strip() for text in said if text.strip()) if any(said) else value


def _said(message: dict[str, Any]) -> str:
    """The text of one message: a string, or a list of parts of which those with text count."""
    for name in CONTENT:
        content = message.get(name)
        if isinstance(content, str):
            return content
        if isinstance(content, list):
            texts = (part.get("text") for part in content if isinstance(part, dict))
            return "\n".join(text for text in texts if isinstance(text, str))
    return ""
