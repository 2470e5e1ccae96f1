"""Layouts in which conversations lie on disk: detected from the first row, said, and read as a stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.dialogue.conversation import Conversation, Message
from luhuo.files.readers import DAMAGED
from luhuo.files.records import Broken, broken
from luhuo.files.structured import Row as FileRow
from luhuo.files.structured import read_rows

Row = Mapping[str, Any]

SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "assistant": "assistant",
    "observation": "tool",
    "tool": "tool",
}


def read_conversations(
    path: str | Path, on_broken: Callable[[Broken], None] | None = None
) -> tuple[str, Iterator[Conversation]]:
    """The layout's name and the conversations of a jsonl, json, csv or parquet file (also .gz, .zst), as a stream.

    A row that is no conversation goes to `on_broken`; without it, the first such row raises `LuhuoError`.
    Raises `LuhuoError` when the file holds no row of a known layout.
    """
    file = Path(path)
    name = _detect(file)
    return name, _stream(file, name, on_broken)


def _detect(file: Path) -> str:
    """The layout of the first row that has one."""
    seen = None
    for count, row in enumerate(_rows(file)):
        if isinstance(row, FileRow) and isinstance(row.value, Mapping):
            for name, (fits, _) in LAYOUTS.items():
                if fits(row.value):
                    return name
            seen = seen or sorted(map(str, row.value))
        if count > 100:
            break
    raise LuhuoError(
        tr("No known layout of conversations.", "未识别出对话数据的格式。"),
        expected="; ".join(f"{name}: {keys}" for name, keys in KEYS.items()),
        found=tr("no readable row", "没有可读的行") if seen is None else ", ".join(seen),
        where=file,
    )


def _stream(file: Path, name: str, on_broken: Callable[[Broken], None] | None) -> Iterator[Conversation]:
    for row in _rows(file):
        result = row if isinstance(row, Broken) else _convert(file, name, row)
        if isinstance(result, Conversation):
            yield result
        elif on_broken is not None:
            on_broken(result)
        else:
            raise LuhuoError(
                tr("This row is no conversation.", "该行不是对话。"),
                found=result.reason,
                where=tr(f"{file}, line {result.line}", f"{file} 第 {result.line} 行"),
            )


def _convert(file: Path, name: str, row: FileRow) -> Conversation | Broken:
    fits, convert = LAYOUTS[name]
    reason = f"other_layout: {name} = {KEYS[name]}"
    if isinstance(row.value, Mapping) and fits(row.value):
        try:
            return convert(row.value)
        except (LuhuoError, KeyError, TypeError, ValueError) as error:
            reason = f"bad_conversation: {' '.join(str(error).split())}"
    return broken(file.as_posix(), row.line, reason, json.dumps(row.value, ensure_ascii=False))


def _rows(file: Path) -> Iterator[FileRow | Broken]:
    """The rows of one file. Raises `LuhuoError` if it is none; a damaged archive is a broken row."""
    if not file.is_file():
        inside = ", ".join(sorted(p.name for p in file.glob("*.json*"))) if file.is_dir() else None
        raise LuhuoError(
            tr("A file of conversations is needed here.", "这里需要一个对话文件。"),
            expected=".jsonl, .json, .csv, .parquet (.gz, .zst)",
            found=tr(f"a folder with {inside}", f"目录，内含 {inside}") if inside else None,
            where=file,
        )
    try:
        yield from read_rows(file)
    except DAMAGED as error:
        yield broken(file.as_posix(), 0, "bad_compression", error)


def _world(row: Row) -> Conversation:
    messages = [*row["messages"], {"role": "assistant", "content": row["response"]}]
    known = {k: row[k] for k in ("id", "family", "lang") if k in row}
    return Conversation.of(_dictionaries(messages), **known)


def _openai(row: Row) -> Conversation:
    return Conversation.of(_dictionaries(row["messages"]), **({"id": row["id"]} if "id" in row else {}))


def _sharegpt(row: Row) -> Conversation:
    turns = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    for turn in _dictionaries(row["conversations"]):
        speaker = turn.get("from", turn.get("role"))
        role = SHAREGPT_ROLES.get(str(speaker), str(speaker))
        turns.append({"role": role, "content": turn.get("value", turn.get("content"))})
    return Conversation.of(turns)


def _alpaca(row: Row) -> Conversation:
    parts = [row["instruction"], row.get("input") or ""]
    if not all(isinstance(part, str) for part in parts):
        raise LuhuoError(tr("instruction and input must be text.", "instruction 与 input 必须是文本。"))
    turns = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    for question, answer in row.get("history") or []:
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    turns.append({"role": "user", "content": "\n\n".join(part for part in parts if part)})
    turns.append({"role": "assistant", "content": row["output"]})
    return Conversation.of(turns)


def _prompt_completion(row: Row) -> Conversation:
    """Text on both sides, or message lists on both sides; only the completion's answers are targets."""
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    if isinstance(completion, str):
        completion = [{"role": "assistant", "content": completion}]
    asked = Conversation.of(_dictionaries(prompt)).messages
    context = tuple(Message(m.role, m.content, train=False) for m in asked)
    return Conversation.of([*context, *_dictionaries(completion)])


def _dictionaries(values: Any) -> list[Row]:
    if not isinstance(values, list) or not all(isinstance(v, Mapping) for v in values):
        raise LuhuoError(
            tr("Messages must be a list of objects.", "消息必须是对象的列表。"), found=type(values).__name__
        )
    return values


LAYOUTS: dict[str, tuple[Callable[[Row], bool], Callable[[Row], Conversation]]] = {
    "world": (lambda row: "messages" in row and "response" in row, _world),
    "openai": (lambda row: "messages" in row, _openai),
    "sharegpt": (lambda row: "conversations" in row, _sharegpt),
    "alpaca": (lambda row: "instruction" in row and "output" in row, _alpaca),
    "prompt-completion": (lambda row: "prompt" in row and "completion" in row, _prompt_completion),
}
"""Name -> (whether a row has it, row to conversation). The first that fits counts."""

KEYS = {
    "world": "messages, response",
    "openai": "messages [{role, content}]",
    "sharegpt": "conversations [{from, value}]",
    "alpaca": "instruction, input, output",
    "prompt-completion": "prompt, completion",
}
