"""One request on its way through the engine, and what comes out of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from luhuo.core.seeds import derive_seed
from luhuo.inference.sampling import Sampling
from luhuo.tokenizer.tokenizer import Tokenizer


@dataclass
class Completion:
    """A generated answer. `token_ids` holds everything generated, the end token included; `text` ends before it."""

    text: str
    token_ids: list[int]
    finish_reason: str
    """"stop": an end token or stop string; "length": `max_tokens` or the context is used up."""
    logprobs: list[float] | None = None
    """Log-probability of each token under the model itself (temperature 1, nothing cut)."""
    top_logprobs: list[dict[int, float]] | None = None
    """The most probable tokens at each place."""
    prompt_tokens: int = 0
    choices: list[Completion] = field(default_factory=list, repr=False)
    """All answers to the prompt, this one first."""


@dataclass(frozen=True)
class Chunk:
    """A piece of a streamed answer. The last one carries the finish reason."""

    text: str
    token_ids: list[int]
    finish_reason: str | None = None


class Request:
    """A prompt being answered: its tokens so far, its text, its own chance."""

    def __init__(
        self, prompt: Sequence[int], sampling: Sampling, tokenizer: Tokenizer | None, room: int, choice: int = 0
    ) -> None:
        self.prompt, self.sampling = list(prompt), sampling
        self.limit = min(sampling.max_tokens, room)
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.top_logprobs: list[dict[int, float]] = []
        self.finish_reason: str | None = None
        seed = sampling.seed if sampling.seed is not None else random.SystemRandom().getrandbits(62)
        self._chance = random.Random(derive_seed(seed, choice, *self.prompt))
        self._decoder = tokenizer.decoder(skip_special=True) if tokenizer else None
        self._text = ""
        self._given = 0

    @property
    def length(self) -> int:
        """Cache slots this request can come to use."""
        return len(self.prompt) + self.limit

    def uniform(self) -> float:
        """The next number in [0, 1) of this request's own sequence."""
        return 0.0 if self.sampling.greedy else self._chance.random()

    def push(self, token: int, end_tokens: frozenset[int]) -> None:
        """Take a generated token; sets `finish_reason` when it is the last one."""
        self.tokens.append(token)
        if token in end_tokens and not self.sampling.ignore_eos:
            self._finish("stop")
            return
        if self._decoder:
            before = len(self._text)
            self._text += self._decoder.push(token)
            if self.sampling.stop and self._cut_at_stop(before):
                return
        if len(self.tokens) >= self.limit:
            self._finish("length")

    def take_text(self) -> str:
        """Text that is new since the last call and can no longer become part of a stop string."""
        end = len(self._text) if self.finish_reason else len(self._text) - self._undecided()
        piece = self._text[self._given : end]
        self._given = max(self._given, end)
        return piece

    def completion(self) -> Completion:
        """The finished answer."""
        reported = self.sampling.logprobs is not None
        return Completion(
            text=self._text,
            token_ids=self.tokens,
            finish_reason=self.finish_reason or "length",
            logprobs=self.logprobs if reported else None,
            top_logprobs=self.top_logprobs if self.sampling.logprobs else None,
            prompt_tokens=len(self.prompt),
        )

    def _finish(self, reason: str) -> None:
        before = len(self._text)
        if self._decoder:
            self._text += self._decoder.flush()
        self.finish_reason = reason
        if self.sampling.stop:
            self._cut_at_stop(before)

    def _cut_at_stop(self, before: int) -> bool:
        """Cut the text at the first stop string that reaches beyond `before`, if any."""
        found = [self._text.find(stop, max(0, before - len(stop) + 1)) for stop in self.sampling.stop if stop]
        places = [place for place in found if place >= 0]
        if places:
            self._text = self._text[: min(places)]
            self.finish_reason = "stop"
        return bool(places)

    def _undecided(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = 0
        for stop in self.sampling.stop:
            for size in range(min(len(stop) - 1, len(self._text)), longest, -1):
                if self._text.endswith(stop[:size]):
                    longest = size
                    break
        return longest
