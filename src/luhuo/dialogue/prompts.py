"""Prompts without answers, for training that samples its own; any other data gives its prompts, too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from luhuo.core.language import tr
from luhuo.dialogue.judged import Preference, Prompt
from luhuo.dialogue.layouts import alpaca_turns, is_text, prompt_of, turns_of
from luhuo.dialogue.preference_layouts import PREFERENCES, prompt_conversation, split_answer
from luhuo.dialogue.rows import Layout, Reject, Row, read_layout


def read_prompts(path: str | Path, reject: Reject | None = None) -> tuple[str, Iterator[Prompt]]:
    """The layout's name and the prompts of a jsonl, json, csv or parquet file (also .gz, .zst), as a stream.

    Of conversations, everything before the last answer is the prompt. A row that is none goes to `reject`; without
    it, the first such row raises `LuhuoError`, as does a file without a row of a known layout.
    """
    name, found = read_layout(path, PROMPTS, tr("prompt", "提示"), reject)
    return name, (one.value for one in found)


def _prompt(row: Row) -> Prompt:
    return Prompt(prompt_conversation(prompt_of(row["prompt"], row.get("system")), row), row)


def _messages(row: Row) -> Prompt:
    return Prompt(prompt_conversation(_asked(turns_of(row["messages"])), row), row)


def _sharegpt(row: Row) -> Prompt:
    turns = [{**turn, "from": turn.get("from", turn.get("role"))} for turn in row["conversations"]]
    system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    return Prompt(prompt_conversation([*system, *_asked(turns_of(turns))], row), row)


def _alpaca(row: Row) -> Prompt:
    return Prompt(prompt_conversation(alpaca_turns(row), row), row)


def _asked(turns: list[Any]) -> list[Any]:
    """The turns up to where the last answer is to come."""
    if turns and turns[-1].get("role") in ("user", "tool"):
        return turns
    return split_answer(turns)[0]


def _of_pairs(layout: Layout[Preference]) -> Layout[Prompt]:
    return Layout(
        layout.name, layout.keys, layout.fits, lambda row: Prompt(layout.convert(row).prompt, row), layout.means
    )


PROMPTS: tuple[Layout[Prompt], ...] = (
    *(_of_pairs(layout) for layout in PREFERENCES),
    Layout("prompt-only", "prompt", lambda row: "prompt" in row, _prompt, lambda row: is_text(row["prompt"])),
    Layout("prompt-only-messages", "prompt [{role, content}]", lambda row: "prompt" in row, _prompt),
    Layout("messages", "messages [{role, content}]", lambda row: "messages" in row, _messages),
    Layout("sharegpt", "conversations [{from, value}]", lambda row: "conversations" in row, _sharegpt),
    Layout("alpaca", "instruction, input", lambda row: "instruction" in row, _alpaca),
)
