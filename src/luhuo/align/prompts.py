"""Prompts: what the policy answers while it learns, in a seeded order whose place is one number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.render import render
from luhuo.files.records import Broken, broken
from luhuo.files.structured import read_rows
from luhuo.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """What is asked, as token ids, and the row it came from, which rewards look into."""

    item: Mapping[str, Any]
    messages: tuple[Mapping[str, Any], ...]
    """Empty where the prompt is plain text to be continued."""
    ids: tuple[int, ...]


def read_prompts(
    files: Sequence[Path], tokenizer: Tokenizer, *, system: str = "", on_broken: Callable[[Broken], None] | None = None
) -> list[Prompt]:
    """The prompts of JSON lines, JSON, CSV or Parquet files.

    A row has `messages`, or `prompt` as a list of messages: a conversation, whose final answer, if it is there, is
    left for the policy to write; or `prompt` as a text, which is continued as it is. All else in a row is kept for the
    rewards. `system` opens each conversation that has no system message. Rows that are no prompts go to `on_broken`;
    without it the first raises `LuhuoError`, as does a set without any.
    """
    found: list[Prompt] = []
    for file in files:
        for row in read_rows(file):
            prompt = row if isinstance(row, Broken) else _prompt(row.value, tokenizer, system)
            if isinstance(prompt, Prompt):
                found.append(prompt)
                continue
            line = row.line
            fault = prompt if isinstance(prompt, Broken) else broken(file.as_posix(), line, prompt, str(row))
            if on_broken is None:
                raise LuhuoError(
                    tr("This row is no prompt.", "该行不是提示。"),
                    expected='{"messages": […]} | {"prompt": […]} | {"prompt": "…"}',
                    found=fault.reason,
                    where=f"{file}:{line}",
                )
            on_broken(fault)
    if not found:
        raise LuhuoError(
            tr("There are no prompts.", "没有任何提示。"),
            expected='{"messages": […]} | {"prompt": […]} | {"prompt": "…"}',
            where=", ".join(map(str, files)),
        )
    return found


def _prompt(row: Any, tokenizer: Tokenizer, system: str) -> Prompt | str:
    """The prompt of one row, or why there is none."""
    if not isinstance(row, Mapping):
        return "not_an_object"
    given = row.get("messages", row.get("prompt"))
    if isinstance(given, str) and given:
        return Prompt(row, (), tuple(tokenizer.encode_prompt(given)))
    if not isinstance(given, Sequence) or not given:
        return "no_prompt"
    messages = list(given)
    try:
        while messages and messages[-1]["role"] == "assistant":
            messages.pop()
        if system and messages and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": system})
        conversation = Conversation.of(messages)
        return Prompt(row, tuple(messages), tuple(render(conversation, tokenizer, generation_prompt=True).ids))
    except (LuhuoError, KeyError, TypeError) as error:
        return f"bad_prompt: {' '.join(str(error).split())}"


class PromptOrder:
    """An endless sequence of prompts: every epoch all of them, shuffled anew from (seed, epoch)."""

    def __init__(self, prompts: Sequence[Prompt], seed: int) -> None:
        self.prompts, self.seed = prompts, seed
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def at(self, place: int) -> Prompt:
        """The prompt at a place of the sequence, from 0."""
        epoch, number = divmod(place, len(self.prompts))
        if epoch != self._epoch:
            random = np.random.default_rng(derive_seed(self.seed, "prompts", epoch))
            self._epoch, self._order = epoch, random.permutation(len(self.prompts))
        return self.prompts[self._order[number]]
