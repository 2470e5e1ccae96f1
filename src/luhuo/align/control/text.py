"""The control text: one line an attribute, `length: short`, in the system message or in front of plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FILE = "control.json"
"""What a folder of controlled data says of its attributes."""


def line(name: str, value: str) -> str:
    """One attribute as it is asked for."""
    return f"{name}: {value}"


def asked(messages: Sequence[Mapping[str, Any]], control: Mapping[str, str]) -> list[dict[str, Any]]:
    """The messages, asked to be answered like this: the last lines of the system message, or one of their own."""
    found = [dict(message) for message in messages]
    if not control:
        return found
    text = "\n".join(line(name, value) for name, value in control.items())
    if found and found[0]["role"] == "system":
        found[0]["content"] = f"{found[0]['content']}\n{text}" if found[0]["content"] else text
        return found
    return [{"role": "system", "content": text}, *found]


def prefix(control: Mapping[str, str]) -> str:
    """The control code in front of a plain text (Keskar et al. 2019): the lines, and an empty one."""
    return "".join(line(name, value) + "\n" for name, value in control.items()) + "\n" if control else ""
