"""Prompts: what the policy answers while it learns, in a seeded order whose place is one number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from luhuo.core.seeds import derive_seed
from luhuo.dialogue.conversation import Conversation, Message
from luhuo.dialogue.prompts import read_prompts
from luhuo.dialogue.render import render
from luhuo.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """What is asked, as token ids, and the row it came from, which rewards look into."""

    item: Mapping[str, Any]
    messages: tuple[Mapping[str, Any], ...]
    ids: tuple[int, ...]


def render_prompts(files: Sequence[Path], tokenizer: Tokenizer, *, system: str = "") -> list[Prompt]:
    """The prompts of some files (`dialogue.prompts`), as token ids up to where an answer is to begin.

    `system` opens each conversation that has no system message. Raises `LuhuoError` at a row that is no prompt.
    """
    return [
        Prompt(item, tuple(conversation.plain()), tuple(render(conversation, tokenizer, generation_prompt=True).ids))
        for item, conversation in asked(files, system=system)
    ]


def asked(files: Sequence[Path], *, system: str = "") -> Iterator[tuple[Mapping[str, Any], Conversation]]:
    """Row and conversation of each prompt; `system` opens those without a system message. Raises `LuhuoError` at a row
    that is no prompt."""
    for file in files:
        for one in read_prompts(file)[1]:
            conversation = one.prompt
            if system and conversation.messages[0].role != "system":
                conversation = replace(conversation, messages=(Message("system", system), *conversation.messages))
            yield one.item, conversation


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
