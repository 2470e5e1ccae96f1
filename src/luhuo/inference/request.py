"""One request on its way through the engine, and what comes out of it."""

from __future__ import annotations

import random
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from luhuo.core.seeds import derive_seed
from luhuo.inference.history import History, is_penalised
from luhuo.inference.sampling import Sampling
from luhuo.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from luhuo.inference.adapters import LoadedAdapter


class Constraint(Protocol):
    """What restricts the tokens of one request (`constraints.py`)."""

    error: str | None
    """Why nothing can follow, once that is so."""

    @property
    def finished(self) -> bool:
        """Whether nothing but an end may follow."""
        ...

    def allowed(self, vocab: int, end_tokens: Set[int]) -> Tensor:
        """Which tokens may come next: bool (vocab,). Where the text may end, `end_tokens` are among them."""
        ...

    def accept(self, token: int) -> None:
        """Take the chosen token."""
        ...


@dataclass
class Completion:
    """A generated answer. `token_ids` holds everything generated, the end token included; `text` ends before it."""

    text: str
    token_ids: list[int]
    finish_reason: str
    """"stop": an end token or stop string; "length": `max_tokens` or the context is used up; "cancelled"; "error"."""
    logprobs: list[float] | None = None
    """Log-probability of each token: under the model itself (temperature 1, nothing cut), or as it was sampled."""
    top_logprobs: list[dict[int, float]] | None = None
    """The most probable tokens at each place."""
    prompt_tokens: int = 0
    choices: list[Completion] = field(default_factory=list, repr=False)
    """All answers to the prompt, this one first."""
    stop_reason: str | int | None = None
    """The stop string or stop token that ended the answer."""
    prompt_logprobs: list[tuple[float, dict[int, float]] | None] | None = None
    """For each prompt token its log-probability and the most probable tokens there; None for the first."""
    score: float | None = None
    """What answers were ranked by: mean log-probability (`best_of`), or the score of the beam."""


@dataclass(frozen=True)
class Chunk:
    """A piece of a streamed answer. The last one carries the finish reason."""

    text: str
    token_ids: list[int]
    finish_reason: str | None = None


class Request:
    """A prompt being answered: its tokens so far, its text, its own chance."""

    def __init__(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        tokenizer: Tokenizer | None,
        room: int,
        choice: int = 0,
        *,
        constraint: Constraint | None = None,
        adapter: LoadedAdapter | None = None,
    ) -> None:
        self.prompt, self.sampling, self.choice = list(prompt), sampling, choice
        self.adapter = adapter
        self.constraint = constraint
        self.limit = min(sampling.max_tokens, room)
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.top_logprobs: list[dict[int, float]] = []
        self.prompt_logprobs: list[tuple[float, dict[int, float]] | None] | None = None
        self.cached_tokens = 0
        """Tokens of the prompt that were known from earlier requests."""
        self.finish_reason: str | None = None
        self.stop_reason: str | int | None = None
        self.error: str | None = None
        self.history = History(self.prompt) if is_penalised(sampling) else None
        self.stop_ids = frozenset(sampling.stop_token_ids)
        self.ends = adapter.ends if adapter else frozenset()
        """Tokens that end this answer, besides those that end every one."""
        self._bad = _bad_words(sampling.bad_words, tokenizer)
        seed = sampling.seed if sampling.seed is not None else random.SystemRandom().getrandbits(62)
        self._chance = random.Random(derive_seed(seed, choice, *self.prompt))
        self._decoder = tokenizer.decoder(skip_special=not sampling.show_special) if tokenizer else None
        self._echo = tokenizer.decode(self.prompt, skip_special=True) if sampling.echo and tokenizer else ""
        self._text = self._echo
        self._given = 0

    @property
    def length(self) -> int:
        """Cache slots this request can come to use."""
        return len(self.prompt) + self.limit

    @property
    def text(self) -> str:
        """All text so far, without what may still become part of a stop string."""
        return self._text if self.finish_reason else self._text[: len(self._text) - self._undecided()]

    @property
    def reports(self) -> bool:
        """Whether log-probabilities are to be stored: asked for, or needed to rank answers."""
        return self.sampling.logprobs is not None or self.sampling.rounds > self.sampling.n

    @property
    def score(self) -> float:
        """Mean log-probability of the tokens so far."""
        return sum(self.logprobs) / max(1, len(self.logprobs))

    def uniform(self) -> float:
        """The next number in [0, 1) of this request's own sequence."""
        return 0.0 if self.sampling.greedy else self._chance.random()

    def peek(self, count: int) -> list[float]:
        """The next `count` numbers that `uniform` will give."""
        if self.sampling.greedy:
            return [0.0] * count
        state = self._chance.getstate()
        found = [self._chance.random() for _ in range(count)]
        self._chance.setstate(state)
        return found

    def banned(self, end_tokens: Set[int]) -> set[int]:
        """Tokens that may not come next: the last ones of bad words, and ends before `min_tokens`."""
        banned = set()
        if len(self.tokens) < self.sampling.min_tokens:
            banned |= end_tokens | self.ends | self.stop_ids
        if self._bad:
            longest = max(len(before) for before, _ in self._bad)
            recent = (self.prompt[-longest:] + self.tokens[-longest:])[-longest:] if longest else []
            banned |= {last for before, last in self._bad if recent[len(recent) - len(before) :] == before}
        return banned

    def push(self, token: int, end_tokens: Set[int]) -> None:
        """Take a generated token; sets `finish_reason` when it is the last one."""
        self.tokens.append(token)
        if self.history is not None:
            self.history.add(token)
        if self.constraint is not None and self.constraint.error:
            self.fail(self.constraint.error)
            return
        early = len(self.tokens) <= self.sampling.min_tokens
        if token in self.stop_ids and not early:
            self.stop_reason = token
            self._finish("stop")
            return
        if (token in end_tokens or token in self.ends) and (
            not self.sampling.ignore_eos or self.constraint is not None
        ):
            self._finish("stop")
            return
        if self.constraint is not None:
            self.constraint.accept(token)
            if self.constraint.error:
                self.fail(self.constraint.error)
                return
        before = len(self._text)
        if self._decoder:
            self._text += self._decoder.push(token)
            if self.sampling.stop and not early and self._cut_at_stop(before):
                return
        if self.constraint is not None and self.constraint.finished:
            self._finish("stop")
        elif len(self.tokens) >= self.limit:
            self._finish("length")

    def cancel(self) -> None:
        """End the request where it is."""
        if self.finish_reason is None:
            self._finish("cancelled")

    def fail(self, problem: str) -> None:
        """End the request with an error that a person is told."""
        self.error = problem
        self._finish("error")

    def take_text(self) -> str:
        """Text that is new since the last call and can no longer become part of a stop string."""
        end = len(self.text)
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
            stop_reason=self.stop_reason,
            prompt_logprobs=self.prompt_logprobs,
            score=self.score if self.reports else None,
        )

    def _finish(self, reason: str) -> None:
        before = len(self._text)
        if self._decoder:
            self._text += self._decoder.flush()
        self.finish_reason = reason
        if self.sampling.stop and len(self.tokens) > self.sampling.min_tokens:
            self._cut_at_stop(before)

    def _cut_at_stop(self, before: int) -> bool:
        """Cut the text at the first stop string that reaches beyond `before`, if any."""
        found = []
        for stop in self.sampling.stop:
            place = self._text.find(stop, max(len(self._echo), before - len(stop) + 1))
            if place >= 0:
                found.append((place, stop))
        if not found:
            return False
        place, stop = min(found, key=lambda pair: (pair[0], -len(pair[1])))
        self._text = self._text[: place + len(stop) * self.sampling.include_stop]
        self.finish_reason, self.stop_reason = "stop", stop
        return True

    def _undecided(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest, room = 0, len(self._text) - len(self._echo)
        for stop in self.sampling.stop:
            for size in range(min(len(stop) - 1, room), longest, -1):
                if self._text.endswith(stop[:size]):
                    longest = size
                    break
        return longest


def ranked(requests: Sequence[Request], n: int) -> list[Completion]:
    """The `n` finished answers with the best mean log-probability, best first; all in order if there are no more."""
    if len(requests) > n:
        requests = sorted(requests, key=lambda r: (-r.score, r.choice))[:n]
    completions = [request.completion() for request in requests]
    completions[0].choices = completions
    return completions


def _bad_words(words: Sequence[str], tokenizer: Tokenizer | None) -> list[tuple[list[int], int]]:
    """(tokens before, last token) of each way to write a bad word: alone, and behind a blank."""
    if tokenizer is None:
        return []
    ways = {tuple(tokenizer.encode(form)) for word in words for form in (word, f" {word.lstrip()}") if form.strip()}
    return [(list(way[:-1]), way[-1]) for way in sorted(ways) if way]
