"""Rows of instruction data with their conversations; the row itself is kept, to be written as it was read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from luhuo.core.language import tr
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.layouts import LAYOUTS
from luhuo.dialogue.rows import Layout, Reject, Row, read_layout


@dataclass(frozen=True)
class Sample:
    """A row of a file, and the conversation that it is."""

    file: str
    line: int
    row: Row
    conversation: Conversation

    @property
    def instructions(self) -> str:
        """What the system message says."""
        first = self.conversation.messages[0]
        return first.content if first.role == "system" else ""

    @property
    def question(self) -> str:
        """All that is said before the last answer."""
        return "\n".join(message.content for message in self.conversation.messages[: self._last()])

    @property
    def answer(self) -> str:
        """The last answer; empty where there is none, calls of tools counted as text."""
        last = self._last()
        messages = self.conversation.messages
        if last == len(messages):
            return ""
        calls = "".join(str(call["function"]) for call in messages[last].tool_calls)
        return messages[last].content + calls

    @property
    def turns(self) -> list[tuple[str, str]]:
        """(what the user said, answer) of each answer in words."""
        found, asked = list[tuple[str, str]](), ""
        for message in self.conversation.messages:
            if message.role == "user":
                asked = message.content
            elif message.role == "assistant" and not message.tool_calls:
                found.append((asked, message.content))
        return found

    @property
    def key(self) -> str:
        """32 hexadecimal digits of question and answer: what scores of a model are filed under."""
        return key_of(self.question, self.answer)

    def _last(self) -> int:
        roles = [message.role for message in self.conversation.messages]
        return len(roles) - 1 - roles[::-1].index("assistant") if "assistant" in roles else len(roles)


def key_of(question: str, answer: str) -> str:
    """The key of a question with its answer."""
    text = f"{question}\0{answer}".encode("utf-8", "replace")
    return hashlib.sha256(text).hexdigest()[:32]


def read_samples(path: str | Path, reject: Reject) -> tuple[str, Iterator[Sample]]:
    """The layout's name and the rows of a file, as a stream. Raises `LuhuoError` for a file of no known layout."""
    layouts = [Layout(one.name, one.keys, one.fits, _both(one), one.means) for one in LAYOUTS]
    name, found = read_layout(path, layouts, tr("conversation", "对话"), reject)
    return name, (Sample(Path(path).name, one.line, *one.value) for one in found)


def _both(layout: Layout[Conversation]):
    return lambda row: (row, layout.convert(row))
