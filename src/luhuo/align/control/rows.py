"""Rows on their way through the stage `control`: read with all their columns, written with the control they get."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from luhuo.align.control.reading import Told
from luhuo.align.control.text import asked, prefix
from luhuo.core.language import tr
from luhuo.dialogue import texts
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.layouts import LAYOUTS
from luhuo.dialogue.rows import Layout, Row, read_layout
from luhuo.dialogue.texts import Passage
from luhuo.files.records import Broken, broken

KEPT = ("id", "family", "lang")
"""Columns that are kept beside the conversation."""
Place = tuple[str, int]
"""Name of the file and line."""


class Line:
    """One row: where it stands, what is looked at, and how it is written with its control."""

    def __init__(self, place: Place, item: Row, content: Conversation | Passage) -> None:
        self.place, self.item, self.content = place, item, content

    @property
    def told(self) -> Told:
        """What attributes are read from."""
        if isinstance(self.content, Passage):
            return Told(self.item, [{"role": "user", "content": self.content.prompt}], [self.content.completion])
        messages = self.content.messages
        last = max(i for i, message in enumerate(messages) if message.is_target)
        answers = [message.content for message in messages if message.is_target]
        return Told(self.item, self.content.plain()[:last], answers)

    def row(self, control: Mapping[str, str]) -> dict[str, Any]:
        """The row with its control."""
        source = {"file": self.place[0], "line": self.place[1]}
        known = {name: self.item[name] for name in KEPT if isinstance(self.item.get(name), (str, int))}
        if isinstance(self.content, Passage):
            text = {"prompt": prefix(control) + self.content.prompt, "completion": self.content.completion}
            return known | text | {"control": dict(control), "source": source}
        tools = {"tools": [dict(tool) for tool in self.content.tools]} if self.content.tools else {}
        messages = asked(_messages(self.content), control)
        return known | {"messages": messages} | tools | {"control": dict(control), "source": source}


def lines(files: Sequence[Path], plain: bool, reject: Callable[[Broken], None]) -> Iterator[Line]:
    """The rows of some files that have an answer; all others go to `reject`."""
    what = tr("plain text", "纯文本") if plain else tr("conversation", "对话")
    for file in files:
        layouts: Any = texts.LAYOUTS if plain else LAYOUTS
        _, found = read_layout(file, [_beside(layout) for layout in layouts], what, reject)
        for one in found:
            item, content = one.value
            fault = _fault(content)
            if fault:
                reject(broken(file.as_posix(), one.line, fault, item))
            else:
                yield Line((file.name, one.line), item, content)


def _beside(layout: Layout[Any]) -> Layout[tuple[Row, Any]]:
    """The same layout, its rows kept beside what they are converted to."""
    return Layout(layout.name, layout.keys, layout.fits, lambda row: (row, layout.convert(row)), layout.means)


def _fault(content: Conversation | Passage) -> str | None:
    """Why nothing can be said of a row's answers, or None."""
    if isinstance(content, Passage):
        return None if content.completion.strip() else "empty_answer"
    targets = [message for message in content.messages if message.is_target]
    if not targets:
        return "no_target"
    return None if all(message.content.strip() or message.tool_calls for message in targets) else "empty_answer"


def _messages(conversation: Conversation) -> list[dict[str, Any]]:
    """The messages in OpenAI's layout, with what is not learned and what counts otherwise than 1."""
    found = conversation.plain()
    for message, row in zip(conversation.messages, found, strict=True):
        if message.role == "assistant" and not message.train:
            row["train"] = False
        elif message.weight != 1:
            row["weight"] = message.weight
    return found
