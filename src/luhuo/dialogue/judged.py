"""What preference training and reinforcement learning start from: pairs, rankings, judged answers, labelled steps,
prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from luhuo.dialogue.conversation import Conversation, Message


@dataclass(frozen=True)
class Preference:
    """Two answers to one prompt, of which people (or a judge) took one."""

    prompt: Conversation
    """Ends where an answer is to come; none of it is a target."""
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    margin: float | None = None
    """By how much the chosen one is better, where the data say so."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """The other columns of the row (`defect`, `family`, `lang`, `model`, …)."""

    def conversations(self) -> tuple[Conversation, Conversation]:
        """(prompt and chosen answer, prompt and rejected answer); the answers are what is learned."""
        return joined(self.prompt, self.chosen), joined(self.prompt, self.rejected)

    def unpaired(self) -> tuple[Unpaired, Unpaired]:
        """The two answers as single ones with a verdict."""
        return (
            Unpaired(self.prompt, self.chosen, True, self.meta),
            Unpaired(self.prompt, self.rejected, False, self.meta),
        )


@dataclass(frozen=True)
class Unpaired:
    """One answer, and whether it is good."""

    prompt: Conversation
    completion: tuple[Message, ...]
    label: bool
    meta: Mapping[str, Any] = field(default_factory=dict)

    def conversation(self) -> Conversation:
        """Prompt and answer; the answer is what is learned."""
        return joined(self.prompt, self.completion)


@dataclass(frozen=True)
class Stepwise:
    """One answer in steps, each right or wrong: for rewards of a process."""

    prompt: Conversation
    steps: tuple[str, ...]
    labels: tuple[bool, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ranking:
    """Several answers to one prompt, in an order."""

    prompt: Conversation
    answers: tuple[tuple[Message, ...], ...]
    ranks: tuple[float, ...]
    """One an answer; 1 is best, equal ones tie."""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """One answer, and a number for how good it is."""

    prompt: Conversation
    completion: tuple[Message, ...]
    score: float
    meta: Mapping[str, Any] = field(default_factory=dict)


Judged = Preference | Ranking | Unpaired | Scored | Stepwise
"""All ways to say that an answer is good."""


@dataclass(frozen=True)
class Prompt:
    """What an assistant is asked, and what is known about the answer."""

    prompt: Conversation
    """Ends where an answer is to come; none of it is a target."""
    item: Mapping[str, Any] = field(default_factory=dict)
    """The row as it was read: `answer`, `check`, … are what rewards look at."""


def joined(prompt: Conversation, answer: tuple[Message, ...]) -> Conversation:
    """Prompt and answer as one conversation."""
    return replace(prompt, messages=(*prompt.messages, *answer))
