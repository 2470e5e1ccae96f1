"""Prompts and answers out of files: what is to be judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.dialogue.conversation import Conversation
from luhuo.files.records import Broken
from luhuo.files.structured import read_rows
from luhuo.rank.store import NewItem

MOST_ANSWERS = 9
"""Answers of an item: as many as there are digit keys."""
MOST_CHARS = 200_000
KEPT = ("id", "family", "lang", "source", "template")
"""Fields of a row that stay with the item, and come out again with its preferences."""


def read_answers(file: Path, counts: Counter[str]) -> Iterator[NewItem]:
    """Items of a file of rows with `prompt` (text or messages) and `answers` (texts, or {"text", "model"}), or with
    `chosen` and `rejected` as preference data has them.

    `counts` is told what happened to each row: `read`, `used`, `broken`, `too_few` (different answers). Raises
    `LuhuoError` for a row of neither layout.
    """
    for row in _rows(file, counts):
        if "answers" in row:
            given = row["answers"]
        elif {"chosen", "rejected"} <= row.keys():
            given = [row["chosen"], row["rejected"]]
        else:
            raise _layout(file, row, "prompt, answers")
        answers = different([_answer(one, file) for one in given], counts)
        if len(answers) >= 2:
            counts["used"] += 1
            yield prompt_of(row, file), answers, _meta(row)
        else:
            counts["too_few"] += 1


def read_prompts(file: Path, counts: Counter[str]) -> Iterator[tuple[list[dict[str, str]], dict[str, Any]]]:
    """(messages, meta) of rows with `prompt` (text or messages) or `messages`."""
    for row in _rows(file, counts):
        yield prompt_of(row, file), _meta(row)


def different(answers: Sequence[tuple[str, str]], counts: Counter[str]) -> list[tuple[str, str]]:
    """The answers without those whose text came before, and at most `MOST_ANSWERS`."""
    unique = dict[str, str]()
    for text, model in answers:
        if text.strip() and len(text) <= MOST_CHARS:
            unique.setdefault(text, model)
    counts["answers.equal"] += len(answers) - len(unique)
    return list(unique.items())[:MOST_ANSWERS]


def prompt_of(row: Mapping[str, Any], file: Path) -> list[dict[str, str]]:
    """The messages of a row's prompt. Raises `LuhuoError` where they are no conversation that ends with the user."""
    prompt = row.get("prompt", row.get("messages"))
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    if not isinstance(prompt, list) or not prompt:
        raise _layout(file, row, "prompt | messages")
    messages = Conversation.of(prompt).messages
    if messages[-1].role not in ("user", "tool"):
        raise LuhuoError(
            tr("A prompt must end with the user's turn.", "提示必须以用户的轮次结束。"),
            found=messages[-1].role,
            where=file,
        )
    return [{"role": message.role, "content": message.content} for message in messages]


def _rows(file: Path, counts: Counter[str]) -> Iterator[Mapping[str, Any]]:
    for row in read_rows(file):
        counts["read"] += 1
        if isinstance(row, Broken) or not isinstance(row.value, Mapping):
            counts["broken"] += 1
        else:
            yield row.value


def _answer(value: Any, file: Path) -> tuple[str, str]:
    """(text, model) of an answer: a text, an object, or the messages of an assistant's turn."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        return value, ""
    if isinstance(value, Mapping):
        text = value.get("text", value.get("content"))
        if isinstance(text, str):
            return text, str(value.get("model", ""))
    raise LuhuoError(
        tr("This is no answer.", "这不是回答。"),
        expected=tr('a text, or {"text": "…", "model": "…"}', '一段文本，或 {"text": "…", "model": "…"}'),
        found=str(value)[:100],
        where=file,
    )


def _meta(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in KEPT if isinstance(row.get(name), str | int | float)}


def _layout(file: Path, row: Mapping[str, Any], expected: str) -> LuhuoError:
    return LuhuoError(
        tr("A row lacks what is needed here.", "有一行缺少所需的字段。"),
        expected=expected,
        found=", ".join(map(str, row)),
        where=file,
    )
