"""What a reward says about a completion, and what the rewards of a stage say together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Item = Mapping[str, Any]
"""A prompt: `messages`, and what its rewards need (`answer`, `check`, `tests`, `lang`, …)."""


@dataclass(frozen=True)
class CompletionInfo:
    """How a completion came to be: number of sampled tokens, why it ended ("stop" or "length"), the most allowed."""

    tokens: int = 0
    finish_reason: str = "stop"
    max_tokens: int = 0


@dataclass(frozen=True)
class Mark:
    """One reward of one completion. `value` None: the reward does not apply to this prompt.

    `parts` are logged beside it and not added: the same answer read strictly and leniently.
    """

    value: float | None
    parts: Mapping[str, float] = field(default_factory=dict)


NOT_APPLICABLE = Mark(None)


@dataclass(frozen=True)
class Failure:
    """A reward that should have scored a completion and could not, with the reason."""

    reason: str


Scorer = Callable[[Sequence[Item], Sequence[str], Sequence[CompletionInfo]], list["Mark | Failure"]]
"""Scores completions: one `Mark` or `Failure` for each, in order."""


def each(function: Callable[[Item, str, CompletionInfo], Mark | Failure]) -> Scorer:
    """A scorer from a function of one completion. What it raises becomes a `Failure` of that completion alone."""

    def score(items: Sequence[Item], texts: Sequence[str], infos: Sequence[CompletionInfo]) -> list[Mark | Failure]:
        return [guarded(function, *given) for given in zip(items, texts, infos, strict=True)]

    return score


def guarded(function: Callable[..., Mark | Failure], *arguments: Any) -> Mark | Failure:
    """Call a function; an exception becomes a `Failure` that names it, to be counted and shown, never a zero."""
    try:
        return function(*arguments)
    except Exception as error:  # a reward may raise anything; `Rewards` reports it with an example
        return Failure(f"{type(error).__name__}: {error}")
