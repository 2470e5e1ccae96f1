"""Continuous batching: every step gives each running request one token and works on prompts with what is left.

A request owns one row of the cache. Prompts are computed in chunks, so that a long one does not hold up the answers
that are being written; requests that wait for their first token share the step's tokens evenly. When the cache would
grow beyond its budget, the youngest request loses its row and is computed again later (Kwon et al. 2023, section 4.5).

Models in which a later token changes what earlier ones are to each other (prompts that see themselves, records,
frequencies by length) get whole prompts and room for the whole answer instead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luhuo.inference import sampler
from luhuo.inference.request import Request
from luhuo.model.cache import KVCache
from luhuo.model.decoder import Decoder

STEP_TOKENS = 512
"""Tokens of prompts that one step computes at most, padding included."""
LEAST_CHUNK = 64
"""Tokens of a prompt that are worth a pass."""
ROUNDING = 64
"""The cache grows by so many slots at least, where the budget allows it."""
HEADROOM = 16
"""Slots that must be free beyond its prompt for a request to be admitted beside others."""


@dataclass(eq=False)
class Running:
    """A request with its row of the cache."""

    request: Request
    ids: list[int]
    """Prompt and answer so far."""
    row: int = -1
    filled: int = 0
    """How many of them are in the cache."""

    @property
    def pending(self) -> int:
        """Tokens that are not in the cache; with one, the next forward pass gives the next token."""
        return len(self.ids) - self.filled


class Scheduler:
    """Runs requests on one model. Not thread-safe: one thread owns it (or holds the engine's lock).

    At most `max_batch` requests run at once, with at most `cache_tokens` slots together.
    """

    def __init__(
        self,
        model: Decoder,
        *,
        max_batch: int,
        cache_tokens: int,
        end_tokens: frozenset[int],
        step_tokens: int = STEP_TOKENS,
    ) -> None:
        self.model, self.end_tokens = model, end_tokens
        self.max_batch, self.cache_tokens, self.step_tokens = max_batch, cache_tokens, step_tokens
        self.preemptions = 0
        """How often a request had to give up its row."""
        self.whole = model.config.reads_back or model.config.rope.by_length
        """Whether prompts are computed at once and rows are given for whole answers."""
        self._waiting: deque[Running] = deque()
        self._running: list[Running] = []
        self._ended: list[Request] = []
        self._cache = self._empty()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._waiting or self._running or self._ended)

    @property
    def waiting(self) -> int:
        """Requests without a row."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests with a row."""
        return len(self._running)

    def add(self, request: Request) -> None:
        """Take a request on; it runs as soon as there is room."""
        self._waiting.append(Running(request, list(request.prompt)))

    def cancel(self, request: Request) -> None:
        """End a request with finish reason "cancelled"; one that is not here is left alone."""
        for place in (self._waiting, self._running):
            for one in [one for one in place if one.request is request]:
                place.remove(one)
                if one.row >= 0:
                    self._cache.lengths[one.row] = 0
                request.cancel()
                self._ended.append(request)

    def clear(self) -> list[Request]:
        """Forget all requests and the cache, after an error; returns the requests."""
        dropped = [one.request for one in (*self._running, *self._waiting)] + self._ended
        self._waiting.clear()
        self._running, self._ended, self._cache = [], [], self._empty()
        return dropped

    def step(self) -> list[Request]:
        """Admit what fits, advance every request; returns those that got tokens or ended since the last step."""
        updated, self._ended = self._ended, []
        self._admit()
        ready = [one for one in self._running if one.pending == 1]
        if ready:
            updated += self._decode(ready)
        unready = [one for one in self._running if one.pending > 1]
        if unready:
            updated += self._fill(unready, len(ready))
        if not self._running and not self._waiting:
            self._cache = self._empty()
        return updated

    # Rows and their room

    def _empty(self) -> KVCache:
        model = self.model
        return KVCache(model.config, 0, 0, model.dtype, model.device)

    def _need(self, one: Running) -> int:
        """Slots a request needs to be admitted."""
        return one.request.length if self.whole else len(one.ids)

    def _admit(self) -> None:
        """Give rows to waiting requests, first come, first served."""
        running, limit = len(self._running), self.max_batch
        if not self._waiting:
            self._shrink()
            return
        if running and running + len(self._waiting) > limit and (limit - running) * 4 < limit:
            return  # a prefill for one row costs nearly as much as for sixteen
        group: list[Running] = []
        slots = max([self._need(one) for one in self._running], default=0)
        while self._waiting and running + len(group) < limit:
            slots = max(slots, self._need(self._waiting[0]) + (0 if self.whole else HEADROOM))
            count = running + len(group) + 1
            if count > 1 and count * slots > self.cache_tokens:
                break
            group.append(self._waiting.popleft())
        if group:
            self._place(group)

    def _place(self, group: list[Running]) -> None:
        """Rows for new requests: free ones, and new ones."""
        used = {one.row for one in self._running}
        count = len(used) + len(group)
        width = max(self._cache.capacity, min(ROUNDING, self.cache_tokens // count))
        if count > self._cache.batch or width > self._cache.capacity or self._cache.batch * width > self.cache_tokens:
            width = min(width, max(self.cache_tokens // count, self._cache.longest))
            self._compact(count, width)
            used = {one.row for one in self._running}
        free = [row for row in range(self._cache.batch) if row not in used]
        for one, row in zip(group, free, strict=False):
            one.row, one.filled, self._cache.lengths[row] = row, 0, 0
            self._running.append(one)

    def _compact(self, count: int, width: int) -> None:
        """Keep the rows in use, `count` rows in all, with `width` slots."""
        rows: list[int | None] = [one.row for one in self._running]
        for row, one in enumerate(self._running):
            one.row = row
        self._cache.resize(rows + [None] * (count - len(rows)), width)

    def _shrink(self) -> None:
        """Remove empty rows once a quarter is empty: they cost as much as others."""
        running = len(self._running)
        if running and (self._cache.batch - running) * 4 >= self._cache.batch:
            self._compact(running, self._cache.capacity)

    def _reserve(self, slots: int) -> None:
        """Make rows of `slots` slots, within the budget: empty rows go first, then the youngest requests."""
        if slots <= self._cache.capacity:
            return
        have = self._cache.capacity
        while True:
            generous = max(slots, have + have // 2) + ROUNDING
            for width in (generous - generous % ROUNDING, slots):
                if self._cache.batch * width <= self.cache_tokens or self._cache.batch == 1:
                    self._cache.resize(range(self._cache.batch), width)
                    return
            if self._cache.batch == len(self._running):
                self._preempt()
            self._compact(len(self._running), have)

    def _preempt(self) -> None:
        """Take the row of the youngest request, which will be computed again."""
        one = self._running.pop()
        one.row, one.filled = -1, 0
        self._waiting.appendleft(one)
        self.preemptions += 1

    # Forward passes

    def _decode(self, ready: list[Running]) -> list[Request]:
        """One pass of one token a row."""
        self._reserve(self._cache.longest + 1)
        ready = [one for one in ready if one.row >= 0]
        cache = self._cache
        ids = [0] * cache.batch
        for one in ready:
            ids[one.row] = one.ids[-1]
        device = self.model.device
        real = None
        if len(ready) < cache.batch:  # other rows compute into the slot behind their end, which nobody reads
            used = {one.row for one in ready}
            real = torch.tensor([[row in used] for row in range(cache.batch)], device=device).int()
        column = torch.tensor(ids, device=device)[:, None]
        hidden = self.model.hidden(column, segments=real, cache=cache)[:, -1]
        if real is not None:
            hidden = hidden[[one.row for one in ready]]
        else:
            ready.sort(key=lambda one: one.row)
        for one in ready:
            one.filled += 1
        return self._give(ready, self.model.head(hidden))

    def _fill(self, unready: list[Running], busy: int) -> list[Request]:
        """One pass over chunks of prompts; a request whose prompt is complete gets its first token."""
        group, takes = self._chunks(unready, busy)
        self._reserve(max(one.filled for one in group) + max(takes))
        group, takes = map(list, zip(*[(o, t) for o, t in zip(group, takes, strict=True) if o.row >= 0], strict=True))
        device, width = self.model.device, max(takes)
        ids = torch.zeros(len(group), width, dtype=torch.long)
        for i, (one, take) in enumerate(zip(group, takes, strict=True)):
            ids[i, :take] = torch.tensor(one.ids[one.filled : one.filled + take])
        segments = None
        if min(takes) < width:
            segments = (torch.arange(width) < torch.tensor(takes)[:, None]).int().to(device)
        cache = self._cache.of_rows([one.row for one in group])
        hidden = self.model.hidden(ids.to(device), segments=segments, cache=cache)
        for one, take in zip(group, takes, strict=True):
            one.filled += take
        done = [i for i, one in enumerate(group) if not one.pending]
        if not done:
            return []
        last = torch.tensor([takes[i] - 1 for i in done], device=device)
        return self._give([group[i] for i in done], self.model.head(hidden[torch.tensor(done, device=device), last]))

    def _chunks(self, unready: list[Running], busy: int) -> tuple[list[Running], list[int]]:
        """Whose prompts the next pass works on, and with how many tokens of each."""
        if self.whole:
            share = budget = max(one.pending for one in unready)
        else:
            budget = max(self.step_tokens - busy, 1)
            share = min(budget, max(LEAST_CHUNK, budget // len(unready)))
        group, takes, reach = unready[:1], [min(unready[0].pending, share)], 0
        reach = max(self._cache.capacity, group[0].filled + takes[0])
        for one in unready[1:]:
            take = min(one.pending, share)
            width = max(*takes, take)
            # Padding is written too, so the longest row has to have room for the widest chunk.
            if (len(group) + 1) * width > budget or max(o.filled for o in [*group, one]) + width > reach:
                continue
            group.append(one)
            takes.append(take)
        for one in group:  # the next pass begins with others
            self._running.remove(one)
        self._running += group
        return group, takes

    def _give(self, ready: Sequence[Running], logits: Tensor) -> list[Request]:
        """Choose a token for each of `ready` from its logits (ready, vocab) and hand it to the request."""
        requests = [one.request for one in ready]
        chosen = sampler.next_tokens(requests, logits, self.end_tokens)
        for one, token in zip(ready, chosen, strict=True):
            one.request.push(token, self.end_tokens)
            one.ids.append(token)
            if one.request.finish_reason:
                self._running.remove(one)
                self._cache.lengths[one.row] = 0
        return requests
