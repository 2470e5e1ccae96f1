"""Continuous batching: rows of one cache, given to waiting requests as soon as enough of them are free.

A step gives one token to every running request. Rows of finished requests stay until a quarter of the rows is free
(a prefill for one row costs nearly as much as for sixteen), and are then filled, or removed when nobody waits.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from luhuo.inference import sampler
from luhuo.inference.request import Request
from luhuo.model.cache import KVCache
from luhuo.model.decoder import Decoder

PREFILL_TOKENS = 8192
"""Tokens, padding included, that one prefill call computes at most (one prompt may be longer)."""


class Scheduler:
    """Runs requests to their end on one model."""

    def __init__(
        self,
        model: Decoder,
        requests: Iterable[Request],
        max_batch: int,
        cache_tokens: int,
        end_tokens: frozenset[int],
    ) -> None:
        self._model, self._end_tokens = model, end_tokens
        # Longest first: neighbours have similar lengths, and the cache gets its largest size at once.
        self._waiting = sorted(requests, key=lambda r: -r.length)
        self._waiting.reverse()  # taken from the end
        longest = self._waiting[-1].length if self._waiting else 1
        self._rows: list[Request | None] = [None] * max(1, min(max_batch, len(self._waiting), cache_tokens // longest))
        self._cache = KVCache(model.config, len(self._rows), 1, model.dtype, model.device)
        penalised = any(r.sampling.repetition_penalty != 1 for r in self._waiting)
        shape = (len(self._rows), model.config.vocab_size)
        self._seen = torch.zeros(shape, dtype=torch.bool, device=model.device) if penalised else None

    @property
    def running(self) -> bool:
        """Whether any request is not finished."""
        return bool(self._waiting) or any(self._rows)

    def step(self) -> list[Request]:
        """Admit what fits, give every running request one more token, and return the requests that got one."""
        free = [row for row, request in enumerate(self._rows) if request is None]
        if self._waiting and (len(free) * 4 >= len(self._rows) or not any(self._rows)):
            return self._admit(free)
        if free and not self._waiting and len(free) * 4 >= len(self._rows):
            self._shrink()
        return self._decode()

    def _admit(self, free: list[int]) -> list[Request]:
        """Prefill waiting requests into free rows; each gets its first token."""
        group = [self._waiting.pop()]
        while self._waiting and len(group) < len(free):
            width = max(len(r.prompt) for r in [*group, self._waiting[-1]])
            if width * (len(group) + 1) > PREFILL_TOKENS:
                break
            group.append(self._waiting.pop())
        rows = free[: len(group)]
        logits = self._prefill(group, rows)
        for row, request in zip(rows, group, strict=True):
            self._rows[row] = request
            if self._seen is not None:
                self._seen[row] = False
                self._seen[row, request.prompt] = True
        return self._give(rows, logits)

    def _prefill(self, group: list[Request], rows: list[int]) -> Tensor:
        """Logits (group, vocab) behind each prompt; keys and values go to `rows` of the cache."""
        lengths = [len(r.prompt) for r in group]
        ids = torch.zeros(len(group), max(lengths), dtype=torch.long)
        for i, request in enumerate(group):
            ids[i, : lengths[i]] = torch.tensor(request.prompt)
        segments = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        device = self._model.device
        fresh = KVCache(self._model.config, len(group), max(lengths), self._model.dtype, device)
        hidden = self._model.hidden(ids.to(device), segments=segments.int().to(device), cache=fresh)
        self._cache.put(rows, fresh)
        last = torch.tensor(lengths, device=device) - 1
        return self._model.head(hidden[torch.arange(len(group), device=device), last])

    def _decode(self) -> list[Request]:
        """One forward pass of one token a row. Empty rows compute into slot 0, which nobody reads."""
        ids = [[request.tokens[-1]] if request else [0] for request in self._rows]
        for row, request in enumerate(self._rows):
            if request is None:
                self._cache.lengths[row] = 0
        logits = self._model(torch.tensor(ids, device=self._model.device), cache=self._cache)[:, -1]
        rows = [row for row, request in enumerate(self._rows) if request]
        return self._give(rows, logits if len(rows) == len(self._rows) else logits[rows])

    def _give(self, rows: list[int], logits: Tensor) -> list[Request]:
        """Choose a token for each of `rows` from its logits (rows, vocab) and hand it to the row's request."""
        requests = [request for row in rows if (request := self._rows[row])]
        settings = [r.sampling for r in requests]
        scores = logits
        if self._seen is not None:
            scores = sampler.penalise(logits.float(), self._seen[rows], [s.repetition_penalty for s in settings])
        chosen = sampler.choose(scores, settings, [r.uniform() for r in requests])
        if self._seen is not None:
            self._seen[torch.tensor(rows, device=chosen.device), chosen] = True
        if any(s.logprobs is not None for s in settings):
            _report(requests, logits, chosen)
        for row, request, token in zip(rows, requests, chosen.tolist(), strict=True):
            request.push(token, self._end_tokens)
            if request.finish_reason:
                self._rows[row] = None
        return requests

    def _shrink(self) -> None:
        """Remove the empty rows."""
        keep = [row for row, request in enumerate(self._rows) if request]
        self._cache.select(keep)
        self._rows = [self._rows[row] for row in keep]
        if self._seen is not None:
            self._seen = self._seen[keep]


def _report(requests: list[Request], logits: Tensor, chosen: Tensor) -> None:
    """Store log-probabilities of the chosen and the best tokens with the requests that asked for them."""
    scores = logits.float().log_softmax(-1)
    taken = scores.gather(-1, chosen[:, None])[:, 0].tolist()
    for i, request in enumerate(requests):
        if request.sampling.logprobs is None:
            continue
        request.logprobs.append(taken[i])
        best = scores[i].topk(min(request.sampling.logprobs, scores.shape[-1]))
        request.top_logprobs.append(dict(zip(best.indices.tolist(), best.values.tolist(), strict=True)))
