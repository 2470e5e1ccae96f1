"""Beam search: the most probable whole answers, found by keeping the `beams` best beginnings at every step.

Scores, the point at which the search ends, and the order of what it returns are those of `transformers`: of the
2·beams best continuations (more with several end tokens) those among the first `beams` that end are finished
answers, the best `beams` others go on. A finished answer's score is its sum of log-probabilities, divided by its
length to the power of `length_penalty` (Wu et al. 2016, without their coverage term).
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field

import torch
from torch import Tensor

from luhuo.inference import sampler
from luhuo.inference.request import Completion, Request
from luhuo.inference.sampling import Sampling
from luhuo.model.cache import KVCache
from luhuo.model.decoder import Decoder


@dataclass
class Beam:
    """A beginning of an answer, or a whole one: its tokens and the sum of their log-probabilities."""

    tokens: list[int]
    total: float
    logprobs: list[float] = field(default_factory=list)


@torch.inference_mode()
def beam_search(
    model: Decoder, prompt: Sequence[int], sampling: Sampling, end_tokens: Set[int], room: int
) -> list[Completion]:
    """The `sampling.n` best answers to `prompt`, best first, each with its `score`; all are in the first's `choices`.

    Logit bias, penalties, bad words and `min_tokens` act on the log-probabilities. Chance plays no part.
    """
    ends = set() if sampling.ignore_eos else set(end_tokens)
    ends |= set(sampling.stop_token_ids)
    search = _Search(model, list(prompt), sampling, ends, min(sampling.max_tokens, room))
    search.run()
    found = [_completion(model, search, beam, score) for beam, score in search.finished[: sampling.n]]
    found[0].choices = found
    return found


class _Search:
    """The state of one search: running beams with their rows of the cache, and the finished answers."""

    def __init__(self, model: Decoder, prompt: list[int], sampling: Sampling, ends: set[int], limit: int) -> None:
        self.model, self.prompt, self.sampling, self.ends, self.limit = model, prompt, sampling, ends, limit
        self.running = [Beam([], 0.0)]
        self.finished: list[tuple[Beam, float]] = []
        self.improving = True
        self._plain = sampling.model_copy(update={"stop": (), "echo": False, "stop_token_ids": ()})
        self._cache = KVCache(model.config, 1, len(prompt) + limit, model.dtype, model.device)

    @property
    def full(self) -> bool:
        """Whether there are as many finished answers as beams."""
        return len(self.finished) == self.sampling.beams

    def run(self) -> None:
        """Search until nothing can get better, or the answers are as long as they may be."""
        logits = self.model(torch.tensor([self.prompt], device=self.model.device), cache=self._cache)[:, -1]
        for length in range(1, self.limit + 1):
            going_on = self._step(logits, length)
            if not going_on:
                break
            ids = torch.tensor([[beam.tokens[-1]] for beam in self.running], device=self.model.device)
            logits = self.model(ids, cache=self._cache)[:, -1]
        if not self.finished:  # every continuation was forbidden
            self._finish(self.running, max(1, len(self.running[0].tokens)))

    def _step(self, logits: Tensor, length: int) -> bool:
        """Add a token to the beams, from `logits` (running, vocab); whether the search goes on."""
        width = self.sampling.beams
        candidates = self._candidates(logits, max(2, 1 + len(self.ends)) * width)
        ending = [length == self.limit or beam.tokens[-1] in self.ends for _, beam in candidates]
        self._finish([beam for (_, beam), end in zip(candidates[:width], ending, strict=False) if end], length)
        kept = [candidate for candidate, end in zip(candidates, ending, strict=True) if not end][:width]
        if not kept:
            return False
        self.running = [beam for _, beam in kept]
        self._cache.select([row for row, _ in kept])
        self.improving = self.improving and self._can_improve(length + 1)
        return self.improving and not (self.full and self.sampling.early_stopping is True)

    def _candidates(self, logits: Tensor, count: int) -> list[tuple[int, Beam]]:
        """The best continuations of all beams, best first, each with the row of the beam that it continues."""
        scores = logits.float().log_softmax(-1)
        if self.sampling.edits:
            scores = sampler.edited([self._request(beam) for beam in self.running], scores, self.ends)
        totals = scores + torch.tensor([beam.total for beam in self.running], device=scores.device)[:, None]
        best = totals.flatten().topk(min(count, totals.numel()))
        vocab = totals.shape[-1]
        chosen = []
        for place, total in zip(best.indices.tolist(), best.values.tolist(), strict=True):
            if total == -torch.inf:
                break
            row, token = divmod(place, vocab)
            old = self.running[row]
            beam = Beam([*old.tokens, token], total, [*old.logprobs, total - old.total])
            chosen.append((row, beam))
        return chosen

    def _finish(self, beams: list[Beam], length: int) -> None:
        """Take finished answers in, and keep the best."""
        if not self.improving or (self.full and self.sampling.early_stopping is True):
            return
        scored = [(beam, beam.total / length**self.sampling.length_penalty) for beam in beams]
        self.finished = sorted([*self.finished, *scored], key=lambda pair: -pair[1])[: self.sampling.beams]

    def _can_improve(self, next_length: int) -> bool:
        """Whether the best running beam may still beat the worst finished answer."""
        if not self.full:
            return True
        penalty = self.sampling.length_penalty
        longest = self.sampling.early_stopping == "never" and penalty > 0
        best = self.running[0].total / (self.limit if longest else next_length - 1) ** penalty
        return best > self.finished[-1][1]

    def _request(self, beam: Beam) -> Request:
        """The beam as a request, for penalties and bans."""
        request = Request(self.prompt, self._plain, self.model.tokenizer, self.limit + 1)
        request.tokens = list(beam.tokens)
        for token in beam.tokens:
            if request.history is not None:
                request.history.add(token)
        return request


def _completion(model: Decoder, search: _Search, beam: Beam, score: float) -> Completion:
    """A finished beam as the engine's answer, cut at a stop string where it has one."""
    request = Request(search.prompt, search.sampling, model.tokenizer, search.limit)
    for token in beam.tokens:
        request.push(token, search.ends)
        if request.finish_reason:
            break
    completion = request.completion()
    completion.score = score
    completion.logprobs = beam.logprobs[: len(completion.token_ids)] if search.sampling.logprobs is not None else None
    completion.top_logprobs = None
    return completion
