"""Speculative decoding: guesses at the next tokens, checked by the model in one pass, and when that pays.

The check draws from the model's own distribution with the random number that the place would have had anyway, and
goes on as long as the drawn token is the guessed one. A guess x is so accepted with probability p(x), as rejection
sampling does with a proposal that is certain (Leviathan et al. 2023), and the answer is not only of the same
distribution but the same answer, token by token: penalties, constraints and seeds need no special care, and it may be
switched on and off at any time. Proposals that draw use the numbers of the places they guess, so that a draft model
that agrees with the model is always right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.inference.cache_pool import Running
from luhuo.inference.drafters import Drafter, DraftModel, PredictionHeads, PromptLookup
from luhuo.model.decoder import Decoder

Speculate = Literal["auto", "always", "never"]
MOST_ROWS = 8
"""Requests at once up to which "auto" guesses: in larger batches the passes are full without."""
MOST_TOKENS = 8
"""Longest guess."""
TRIALS, PAUSE = 4, 64
"""Passes with guesses before they are judged, and passes without them before they are tried again."""
FADE = 0.2
"""Weight of the newest measurement in a running mean."""


@dataclass
class Rate:
    """Running means of the seconds of a pass, and of the tokens it gives a request."""

    seconds: float = 0.0
    tokens: float = 0.0
    passes: int = 0

    def add(self, seconds: float, tokens: float) -> None:
        """Take in a pass."""
        fade = max(FADE, 1 / (self.passes + 1))
        self.seconds += fade * (seconds - self.seconds)
        self.tokens += fade * (tokens - self.tokens)
        self.passes += 1

    @property
    def speed(self) -> float:
        """Tokens a second of one request."""
        return self.tokens / max(self.seconds, 1e-9)


class Speculation:
    """Whose next tokens are guessed, how many, and what came of it."""

    def __init__(self, drafter: Drafter, *, always: bool) -> None:
        self.drafter, self.always = drafter, always
        self.proposed = self.accepted = 0
        """Guessed tokens, and those that were right."""
        self._plain: dict[int, Rate] = {}
        self._guessed: dict[int, Rate] = {}
        self._pause = 0

    @staticmethod
    def of(model: Decoder, draft: Decoder | None, speculate: Speculate) -> Speculation | None:
        """With a draft model, else the model's own prediction heads, else what the text repeats; None for "never".

        Raises `LuhuoError` for a draft model with another tokenizer.
        """
        if speculate not in ("auto", "always", "never"):
            raise LuhuoError(
                tr("Unknown choice for speculate.", "speculate 的取值未知。"),
                expected="auto, always, never",
                found=speculate,
            )
        if speculate == "never":
            return None
        if draft is not None:
            return Speculation(DraftModel(draft, model), always=speculate == "always")
        drafter = PredictionHeads(model) if len(model.mtp) else PromptLookup()
        return Speculation(drafter, always=speculate == "always")

    def drafts(self, ready: Sequence[Running]) -> list[list[int]]:
        """Guesses for each request; none at all where that would not pay."""
        if not self._pays(len(ready)):
            return [[] for _ in ready]
        return [self.drafter.propose(one, min(one.guesses, one.room)) if one.room > 0 else [] for one in ready]

    def judge(self, one: Running, draft: Sequence[int], right: int) -> None:
        """Of `draft` the first `right` tokens were right: longer guesses where all were, shorter ones where none."""
        self.proposed += len(draft)
        self.accepted += right
        if draft and right == len(draft):
            one.guesses = min(MOST_TOKENS, 2 * one.guesses)
        elif draft and right == 0:
            one.guesses = max(1, one.guesses // 2)

    def record(self, rows: int, seconds: float, tokens: int, guessed: bool) -> None:
        """A pass over `rows` requests gave `tokens` tokens."""
        table = self._guessed if guessed else self._plain
        table.setdefault(rows, Rate()).add(seconds, tokens / rows)

    def _pays(self, rows: int) -> bool:
        if self.always:
            return True
        plain, guessed = self._plain.get(rows), self._guessed.get(rows)
        if rows > MOST_ROWS or plain is None or plain.passes < TRIALS:
            return False
        if guessed is None or guessed.passes < TRIALS or guessed.speed > plain.speed:
            return True
        self._pause += 1
        if self._pause > PAUSE:
            self._pause, guessed.passes = 0, 0
        return False
