"""Rows of any kind of training data as what they have in common: conversations, with the place they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.judged import joined
from luhuo.dialogue.layouts import LAYOUTS
from luhuo.dialogue.preference_layouts import PREFERENCES, RANKINGS, SINGLE, STEPWISE
from luhuo.dialogue.prompts import PROMPTS
from luhuo.dialogue.rows import Found, Layout, Reject, Row, first_row, read_layout
from luhuo.dialogue.texts import LAYOUTS as TEXTS
from luhuo.dialogue.texts import Passage

Kind = Literal["preference", "ranking", "unpaired-preference", "stepwise", "conversations", "prompt-only", "text"]
"""What a row is for, in TRL's words where it has one."""


@dataclass(frozen=True)
class Sample:
    """One row. A pair has two conversations, the chosen one first, a ranking several; plain text has none."""

    file: str
    line: int
    conversations: tuple[Conversation, ...] = ()
    label: bool | None = None
    passage: Passage | None = None

    @property
    def question(self) -> str:
        """What is asked: all that the user and tools say before the last answer."""
        if self.passage is not None:
            return self.passage.prompt or self.passage.completion
        turns = self.conversations[0].messages
        return "\n".join(m.content for m in turns if m.role in ("user", "tool"))

    def answers(self) -> Iterator[tuple[str, str]]:
        """(what the user asked, the answer to be learned or judged) for each such answer."""
        for conversation in self.conversations:
            asked = ""
            for message in conversation.messages:
                if message.is_target and not message.tool_calls:
                    yield asked, message.content
                elif message.role == "user":
                    asked = message.content
        if self.passage is not None and self.passage.prompt:
            yield self.passage.prompt, self.passage.completion

    def whole(self) -> str:
        """All of its text."""
        if self.passage is not None:
            return self.passage.prompt + self.passage.completion
        return "\n".join(m.content for c in self.conversations for m in c.messages)


def read_samples(file: Path, reject: Reject, *, plain: bool = False) -> tuple[Kind, str, Iterator[Sample]]:
    """(kind, layout, rows) of a file; rows that cannot be used go to `reject`. `LuhuoError` if there are none.

    `plain`: a prompt and its completion are plain text and no conversation.
    """
    row = first_row(file)
    for kind, layouts, make in KINDS[-1:] if plain else KINDS:
        if row is not None and any(layout.meant_by(row) for layout in layouts):
            name, found = read_layout(file, layouts, kind, reject)
            return kind, name, (make(file.as_posix(), one) for one in found)
    raise LuhuoError(
        tr("No known layout of training data.", "未识别出训练数据的格式。"),
        expected="; ".join(f"{layout.name}: {layout.keys}" for _, layouts, _ in KINDS for layout in layouts),
        found=tr("no readable row", "没有可读的行") if row is None else ", ".join(sorted(map(str, row))),
        where=file,
    )


def _pair(file: str, found: Found[Any]) -> Sample:
    return Sample(file, found.line, found.value.conversations())


def _ranking(file: str, found: Found[Any]) -> Sample:
    return Sample(file, found.line, tuple(joined(found.value.prompt, answer) for answer in found.value.answers))


def _judged(file: str, found: Found[Any]) -> Sample:
    one = found.value[0]
    return Sample(file, found.line, (one.conversation(),), one.label)


def _steps(file: str, found: Found[Any]) -> Sample:
    answer = {"role": "assistant", "content": "\n".join(found.value.steps)}
    return Sample(file, found.line, (Conversation.of([*found.value.prompt.messages, answer]),))


def _conversation(file: str, found: Found[Any]) -> Sample:
    return Sample(file, found.line, (found.value,))


def _prompt(file: str, found: Found[Any]) -> Sample:
    return Sample(file, found.line, (found.value.prompt,))


def _text(file: str, found: Found[Any]) -> Sample:
    return Sample(file, found.line, passage=found.value)


def _answered(layout: Layout[Conversation]) -> Layout[Conversation]:
    """A layout of conversations, for files whose first one has an answer; others hold prompts."""

    def means(row: Row) -> bool:
        if not layout.meant_by(row):
            return False
        try:
            return any(m.role == "assistant" for m in layout.convert(row).messages)
        except (LuhuoError, KeyError, TypeError, ValueError, AttributeError):
            return True

    return Layout(layout.name, layout.keys, layout.fits, layout.convert, means)


Make = Callable[[str, Found[Any]], Sample]
KINDS: tuple[tuple[Kind, tuple[Layout[Any], ...], Make], ...] = (
    ("preference", PREFERENCES, _pair),
    ("ranking", RANKINGS, _ranking),
    ("unpaired-preference", SINGLE, _judged),
    ("stepwise", STEPWISE, _steps),
    ("conversations", tuple(map(_answered, LAYOUTS)), _conversation),
    ("prompt-only", PROMPTS, _prompt),
    ("text", TEXTS, _text),
)
"""Tried in this order."""
