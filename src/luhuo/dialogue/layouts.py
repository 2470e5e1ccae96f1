"""Layouts in which conversations lie on disk, under the names that the field calls them by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.dialogue.conversation import Conversation, Message
from luhuo.dialogue.rows import Layout, Reject, Row, dictionaries, read_layout, unpacked

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
OTHER_NAMES = {"developer": "system", "function": "tool"}
"""Roles that OpenAI's layout calls otherwise in some of its versions."""


def read_conversations(path: str | Path, on_broken: Reject | None = None) -> tuple[str, Iterator[Conversation]]:
    """The layout's name and the conversations of a jsonl, json, csv or parquet file (also .gz, .zst), as a stream.

    A row that is no conversation goes to `on_broken`; without it, the first such row raises `LuhuoError`.
    Raises `LuhuoError` when the file holds no row of a known layout.
    """
    name, found = read_layout(path, LAYOUTS, tr("conversation", "对话"), on_broken)
    return name, (one.value for one in found)


def turns_of(values: Any) -> list[Row]:
    """Messages in OpenAI's layout or ShareGPT's as the data model takes them. Raises `LuhuoError`."""
    return [_turn(turn) for turn in dictionaries(values)]


def prompt_of(value: Any, system: Any = None) -> list[Row]:
    """A prompt as messages: text is what the user says."""
    turns = [{"role": "system", "content": system}] if system else []
    value = as_messages(value)
    return [*turns, *([{"role": "user", "content": value}] if isinstance(value, str) else turns_of(value))]


def answer_of(value: Any) -> list[Row]:
    """An answer as messages: text, one message, or a list of them."""
    value = as_messages(value)
    if isinstance(value, str):
        return [{"role": "assistant", "content": value}]
    return turns_of([value] if isinstance(value, Mapping) else value)


def as_messages(value: Any) -> Any:
    """Messages that are written as JSON text (in CSV and Parquet files), read; any other text stays text, JSON too:
    it may be what is to be learned."""
    found = unpacked(value)
    turns = found if isinstance(found, list) else [found]
    speak = all(
        isinstance(t, Mapping) and ({"role", "content"} <= set(t) or {"from", "value"} <= set(t)) for t in turns
    )
    return found if speak and turns else value


def tools_of(row: Row) -> tuple[Row, ...]:
    """The tools of a row, as schemas or as JSON text."""
    tools = unpacked(row.get("tools"))
    return tuple(dictionaries(tools)) if tools else ()


def context(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The same messages, none of them to be learned."""
    return tuple(message.untrained() for message in messages)


def has_tools(row: Row) -> bool:
    """Whether a row names tools, or a message of it calls one."""
    turns = unpacked(row.get("messages") or row.get("conversations"))
    listed = turns if isinstance(turns, list) else []
    calls = any(isinstance(t, Mapping) and (t.get("tool_calls") or t.get("from") == "function_call") for t in listed)
    return bool(unpacked(row.get("tools"))) or calls


def alpaca_turns(row: Row) -> list[Row]:
    """What is asked in a row of Alpaca's layout, with the history and system message of LLaMA-Factory's."""
    parts = [row["instruction"], row.get("input") or ""]
    if not all(isinstance(part, str) for part in parts):
        raise LuhuoError(tr("instruction and input must be text.", "instruction 与 input 必须是文本。"))
    turns = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    for question, answer in unpacked(row.get("history")) or []:
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return [*turns, {"role": "user", "content": "\n\n".join(part for part in parts if part)}]


def _turn(turn: Row) -> Row:
    if turn.get("from") is None:
        role = turn.get("role")
        return {**turn, "role": OTHER_NAMES[role]} if role in OTHER_NAMES else turn
    speaker, value = str(turn["from"]), turn.get("value", turn.get("content"))
    if speaker == "function_call":
        calls = unpacked(value)
        return {"role": "assistant", "content": "", "tool_calls": calls if isinstance(calls, list) else [calls]}
    kept = {key: turn[key] for key in ("weight", "train") if key in turn}
    return {"role": SHAREGPT_ROLES.get(speaker, speaker), "content": value, **kept}


def _world(row: Row) -> Conversation:
    messages = [*row["messages"], {"role": "assistant", "content": row["response"]}]
    known = {k: row[k] for k in ("id", "family", "lang") if k in row}
    return Conversation.of(dictionaries(messages), **known)


def _openai(row: Row) -> Conversation:
    known = {"id": row["id"]} if "id" in row else {}
    return Conversation.of(turns_of(row["messages"]), tools=tools_of(row), **known)


def _sharegpt(row: Row) -> Conversation:
    turns = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    listed = [{**turn, "from": turn.get("from", turn.get("role"))} for turn in dictionaries(row["conversations"])]
    return Conversation.of([*turns, *turns_of(listed)], tools=tools_of(row))


def _alpaca(row: Row) -> Conversation:
    return Conversation.of([*alpaca_turns(row), {"role": "assistant", "content": row["output"]}])


def _query_response(row: Row) -> Conversation:
    turns = alpaca_turns({**row, "instruction": row["query"], "input": ""})
    return Conversation.of([*turns, {"role": "assistant", "content": row["response"]}])


def _prompt_completion(row: Row) -> Conversation:
    """Text on both sides, or message lists on both sides; only the completion's answers are targets."""
    asked = Conversation.of(prompt_of(row["prompt"])).messages
    return Conversation.of([*context(asked), *answer_of(row["completion"])], tools=tools_of(row))


def is_text(value: Any) -> bool:
    """Whether a value is text and not messages written as JSON."""
    return isinstance(value, str) and isinstance(as_messages(value), str)


LAYOUTS: tuple[Layout[Conversation], ...] = (
    Layout("world", "messages, response", lambda row: "messages" in row and "response" in row, _world),
    Layout("openai-tools", "messages, tools", lambda row: "messages" in row, _openai, has_tools),
    Layout("openai", "messages [{role, content}]", lambda row: "messages" in row, _openai),
    Layout("sharegpt-tools", "conversations, tools", lambda row: "conversations" in row, _sharegpt, has_tools),
    Layout("sharegpt", "conversations [{from, value}]", lambda row: "conversations" in row, _sharegpt),
    Layout(
        "alpaca",
        "instruction, input, output",
        lambda row: "instruction" in row and "output" in row,
        _alpaca,
    ),
    Layout(
        "query-response",
        "query, response, history",
        lambda row: "query" in row and "response" in row,
        _query_response,
    ),
    Layout(
        "prompt-completion",
        "prompt, completion",
        lambda row: "prompt" in row and "completion" in row,
        _prompt_completion,
        lambda row: is_text(row["prompt"]),
    ),
    Layout(
        "prompt-completion-messages",
        "prompt [{role, content}], completion [{role, content}]",
        lambda row: "prompt" in row and "completion" in row,
        _prompt_completion,
    ),
)
"""The first that a row means counts."""
