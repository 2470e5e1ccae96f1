"""Continuous batching: every step gives each running request one token and works on prompts with what is left.

A request owns one row of the cache. Prompts are computed in chunks, so that a long one does not hold up the answers
that are being written; which of them come first is prompt_order.py's. When the cache would grow beyond its budget, the
youngest request loses its row and is computed again later (Kwon et al. 2023, section 4.5).

Models in which a later token changes what earlier ones are to each other (prompts that see themselves, records,
frequencies by length) get whole prompts and room for the whole answer instead.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from luhuo.inference import sampler
from luhuo.inference.adapters import LoadedAdapter, unloaded
from luhuo.inference.cache_pool import CachePool, Running
from luhuo.inference.lockstep import Lockstep
from luhuo.inference.passes import Passes
from luhuo.inference.prompt_order import PromptOrder
from luhuo.inference.request import Request
from luhuo.inference.runner import Writer, runner_of
from luhuo.inference.speculative import Speculate, Speculation
from luhuo.model.decoder import Decoder

STEP_TOKENS = 512
"""Tokens of prompts that one step computes at most, padding included."""
PATIENT_TOKENS = 8192
"""The same where nobody reads along: fewer and fuller passes."""
HEADROOM = 8
"""Slots that must be free beyond its prompt for a request to be admitted beside others."""
SHARED = 64
"""A prompt that begins with so many tokens of one that is being computed waits for it."""


class Scheduler:
    """Runs requests on one model. Not thread-safe: one thread owns it (or holds the engine's lock).

    At most `max_batch` requests run at once, with at most `cache_tokens` slots together.
    """

    def __init__(
        self,
        model: Writer,
        *,
        max_batch: int,
        cache_tokens: int,
        end_tokens: frozenset[int],
        step_tokens: int | None = None,
        cache_dtype: torch.dtype | None = None,
        prefixes: bool = True,
        draft: Decoder | None = None,
        speculate: Speculate = "never",
        lockstep: Lockstep | None = None,
    ) -> None:
        self.model, self.end_tokens = model, end_tokens
        self.max_batch, self.step_tokens = max_batch, step_tokens
        self.preemptions = 0
        """How often a request had to give up its row."""
        self.runner = runner_of(model)
        decoder = model if isinstance(model, Decoder) and not self.runner.whole else None
        self.pool = CachePool(self.runner.cache(cache_dtype), cache_tokens, prefixes=prefixes and decoder is not None)
        self.speculation = Speculation.of(decoder, draft, speculate) if decoder else None
        if lockstep is not None and self.speculation is not None and self.speculation.drafter.needs_hidden:
            self.speculation = None  # its passes go through a model of which each process has a part
        self._observes = self.speculation is not None and self.speculation.drafter.needs_hidden
        self.passes = Passes(self.runner, observed=self._observes, lockstep=lockstep)
        self.adapters, self.lockstep = self.passes.adapters, lockstep
        self._waiting: deque[Running] = deque()
        self._running: list[Running] = []
        self._ended: list[Request] = []
        self._prompts = PromptOrder()
        self._added = 0

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

    def add(self, request: Request, *, patient: bool = False) -> None:
        """Take a request on; it runs as soon as there is room. `patient`: nobody reads along."""
        self._added += 1
        one = self.runner.running(request, self._added)
        one.patient = patient
        if request.adapter is not None and not request.adapter.slot:
            request.fail(str(unloaded(request.adapter)))
        if self.lockstep is not None and self.lockstep.leads:
            self.lockstep.came(one.number, request, patient=patient)
        if request.finish_reason:
            self._ended.append(request)
        else:
            self._waiting.append(one)

    def cancel(self, request: Request) -> None:
        """End a request with finish reason "cancelled"; one that is not here is left alone."""
        for place in (self._waiting, self._running):
            for one in [one for one in place if one.request is request]:
                place.remove(one)
                self.pool.release(one)
                if self.lockstep is not None and self.lockstep.leads:
                    self.lockstep.left(one.number)
                request.cancel()
                self._ended.append(request)

    def using(self, adapter: LoadedAdapter) -> int:
        """How many requests run or wait with an adapter."""
        return sum(one.request.adapter is adapter for one in (*self._running, *self._waiting))

    def recompute(self) -> None:
        """Forget everything cached: the weights have changed. Running requests go on with the tokens they have."""
        while self._running:
            self._preempt()
        self.pool.disturb()
        if self.pool.prefix:
            self.pool.prefix.clear()
        if self.speculation:
            self.speculation.drafter.forget()

    def clear(self) -> list[Request]:
        """Forget all requests and the cache, after an error; returns the requests."""
        if self.lockstep is not None:
            self.lockstep.broken = True
        dropped = [one.request for one in (*self._running, *self._waiting)] + self._ended
        self._waiting.clear()
        self._running, self._ended = [], []
        self.pool.drop()
        return dropped

    def step(self) -> list[Request]:
        """Admit what fits, advance every request; returns those that got tokens or ended since the last step."""
        if self.lockstep is not None and self.lockstep.leads and not self.lockstep.broken:
            self.lockstep.begin()
        updated, self._ended = self._ended, []
        self._admit()
        if few := self._few():
            updated += self._together(few)
        else:
            ready = [one for one in self._running if one.pending == 1]
            if ready:
                updated += self._decode(ready)
            unready = [one for one in self._running if one.pending > 1]
            if unready:
                updated += self._fill(unready, len(ready))
        if not self._running and not self._waiting:
            self.pool.idle()
        self.passes.rest(self._running)
        return updated

    # Who runs

    def _need(self, one: Running) -> int:
        """Slots a request needs to be admitted."""
        return one.most if self.runner.whole else len(one.ids) + HEADROOM

    def _admit(self) -> None:
        """Give rows to waiting requests, first come, first served."""
        running, limit = len(self._running), self.max_batch
        if not self._waiting:
            self.pool.shrink(self._running)
            return
        if running and running + len(self._waiting) > limit and (limit - running) * 4 < limit:
            return  # a prefill for one row costs nearly as much as for sixteen
        group: list[Running] = []
        held: list[Running] = []
        slots = max([self._need(one) for one in self._running], default=0)
        beside = max([self.runner.beside(one) for one in self._running], default=0)
        while self._waiting and running + len(group) < limit:
            one = self._waiting[0]
            if self._awaits(one, group):
                held.append(self._waiting.popleft())
                continue
            wider, more = max(slots, self._need(one)), max(beside, self.runner.beside(one))
            count = running + len(group) + 1
            if count > 1 and count * (wider + more) > self.pool.tokens:
                break
            slots, beside = wider, more
            group.append(self._waiting.popleft())
        self._waiting.extendleft(reversed(held))
        if group:
            self.pool.beside = beside
            self.pool.place(self._running, group)
            self.runner.begin(self.pool.cache, group)

    def _awaits(self, one: Running, group: Sequence[Running]) -> bool:
        """Whether a prompt's beginning is just being computed for another request."""
        if self.pool.prefix is None or len(one.ids) <= SHARED:
            return False
        start = one.ids[:SHARED]
        twins = [o for o in (*self._running, *group) if o.pending > 1 and o.filled < SHARED]
        alike = any(twin.ids[:SHARED] == start and twin.adapter == one.adapter for twin in twins)
        return alike and not self.pool.prefix.knows(start, one.adapter)

    def _reserve(self, slots: int) -> None:
        """Have rows of `slots` slots, within the budget: empty rows go first, then the youngest requests."""
        pool = self.pool
        while not pool.widen(slots):
            if pool.cache.batch == len(self._running):
                if len(self._running) == 1:
                    raise RuntimeError(f"{slots} slots in a cache of {pool.tokens}")
                self._preempt()
            pool.compact(self._running, len(self._running), pool.cache.capacity)

    def _preempt(self) -> None:
        """Take the row of the youngest request, which will be computed again."""
        one = max(self._running, key=lambda one: one.number)
        self._running.remove(one)
        self.pool.release(one)
        self._waiting.appendleft(one)
        self.preemptions += 1

    # Forward passes

    def _few(self) -> list[Running]:
        """Requests whose prompts are computed in this step, whole, in one pass with a token of each answer.

        None where the next prompt is too long for that, or where nobody reads along and fuller passes cost less.
        """
        unready = [one for one in self._running if one.pending > 1]
        if not unready:
            return []
        ready = [one for one in self._running if one.pending == 1]
        few = self._prompts.whole(unready, min(self.passes.most, self.step_tokens or STEP_TOKENS) - len(ready))
        if not few or (len(few) < len(unready) and all(one.patient for one in self._running)):
            return []
        return few if self.passes.compiles([*ready, *few], self.pool.cache) else []

    def _together(self, few: Sequence[Running]) -> list[Request]:
        """One pass over the rest of `few` prompts and the last token of each answer; each of these gets a token."""
        self._prompts.passed()
        self._reserve(max(len(one.ids) for one in self._running if one.pending == 1 or one in few))
        group = [one for one in self._running if one.pending == 1 or one in few]
        if not group:  # there was no room beside an older prompt
            return []
        prompts = [one for one in group if one.pending > 1]
        logits = self.passes.compiled(group, self.pool.cache)
        for one in group:
            one.filled = len(one.ids)
        self.pool.save(prompts, ended=False)
        return self._give(group, logits)

    def _decode(self, ready: list[Running]) -> list[Request]:
        """One pass that gives each request a token, or several where they were guessed."""
        guessing, began = self.speculation, time.perf_counter()
        follows = self.lockstep is not None and not self.lockstep.leads
        drafts = guessing.drafts(ready) if guessing and not follows else []
        if self.lockstep is not None and guessing:
            drafts = self.lockstep.share(drafts)
        width = 1 + max(map(len, drafts), default=0)
        cache = self.pool.cache
        if width > 1 and cache.batch * (cache.longest + width) > self.pool.tokens:
            drafts, width = [], 1
        self._reserve(cache.longest + width)
        alive = [i for i, one in enumerate(ready) if one.row >= 0]
        if not alive:
            return []
        ready = [ready[i] for i in alive]
        before = sum(len(one.ids) for one in ready)
        updated = self._verify(ready, [drafts[i] for i in alive]) if width > 1 else self._advance(ready)
        if guessing:
            tokens = sum(len(one.ids) for one in ready) - before
            guessing.record(len(ready), time.perf_counter() - began, tokens, width > 1)
        return updated

    def _advance(self, ready: list[Running]) -> list[Request]:
        """One pass of one token a row."""
        ready = sorted(ready, key=lambda one: one.row)
        logits, states = self.passes.one_token(ready, self.pool.cache)
        for one in ready:
            one.filled += 1
        if states is not None:
            self.pool.disturb()  # modules compute all rows
            self._observe(ready, states, [1] * len(ready))
        return self._give(ready, logits)

    def _verify(self, ready: list[Running], drafts: list[list[int]]) -> list[Request]:
        """One pass over each request's last token and its guesses; tokens are given as long as guesses are right."""
        assert self.speculation is not None
        cache, hidden = self.pool.cache, None
        starts: Sequence[int] = [0, *accumulate(1 + len(draft) for draft in drafts)]
        logits = self.passes.guessed(ready, drafts, cache)
        if logits is None:
            self.pool.disturb()  # modules compute all rows
            hidden = self.passes.guessed_states(ready, drafts, cache)
            starts = range(0, hidden.shape[0] * hidden.shape[1], hidden.shape[1])
            logits = self.passes.head(hidden).flatten(0, 1)
        given, going = [0] * len(ready), list(range(len(ready)))
        for place in range(1 + max(map(len, drafts))):
            requests = [ready[i].request for i in going]
            tokens = self._choose(requests, logits[[starts[i] + place for i in going]])
            on = []
            for i, token in zip(going, tokens, strict=True):
                one, draft = ready[i], drafts[i]
                one.ids.append(token)
                given[i] += 1
                if not one.request.finish_reason and place < len(draft) and token == draft[place]:
                    on.append(i)
            going = on
            if not going:
                break
        for one, draft, count in zip(ready, drafts, given, strict=True):
            right = count - (one.ids[-1] != draft[count - 1] if count <= len(draft) else 1)
            self.speculation.judge(one, draft, right)
            one.filled += count
            cache.lengths[one.row] = one.filled
        if hidden is not None:
            self._observe(ready, hidden, given)
        return self._end(ready)

    def _observe(self, some: Sequence[Running], hidden: Tensor, counts: Sequence[int]) -> None:
        """Show the first `counts` states (some, time, hidden) of each request to whoever guesses from them."""
        if self._observes and self.speculation is not None:
            for one, states, count in zip(some, hidden, counts, strict=True):
                self.speculation.drafter.observe(one, states[:count])

    def _fill(self, unready: list[Running], busy: int) -> list[Request]:
        """One pass over chunks of prompts; a request whose prompt is complete gets its first token."""
        group, takes = self._chunks(unready, busy)
        self._prompts.passed()
        self._reserve(max(one.filled for one in group) + max(takes))
        kept = [i for i, one in enumerate(group) if one.row >= 0]
        if not kept:
            return []
        group, takes = [group[i] for i in kept], [takes[i] for i in kept]
        device, width = self.model.device, max(takes)
        ids = torch.zeros(len(group), width, dtype=torch.long)
        for i, (one, take) in enumerate(zip(group, takes, strict=True)):
            ids[i, :take] = torch.tensor(one.ids[one.filled : one.filled + take])
        segments = None
        if min(takes) < width:
            segments = (torch.arange(width) < torch.tensor(takes)[:, None]).int().to(device)
        cache = self.pool.cache.of_rows([one.row for one in group])
        hidden = self.passes.hidden(ids.to(device), segments, cache, dict(enumerate(group)))
        for one, take in zip(group, takes, strict=True):
            one.filled += take
        self._observe(group, hidden, takes)
        done = [i for i, one in enumerate(group) if not one.pending]
        if not done:
            return []
        self.pool.save([group[i] for i in done], ended=False)
        last = torch.tensor([takes[i] - 1 for i in done], device=device)
        return self._give([group[i] for i in done], self.passes.head(hidden[torch.tensor(done, device=device), last]))

    def _chunks(self, unready: list[Running], busy: int) -> tuple[list[Running], list[int]]:
        """Whose prompts the next pass works on, and with how many tokens of each."""
        if self.runner.whole:
            budget = max(one.pending for one in unready)
        else:
            patient = all(one.patient for one in self._running)
            budget = max((self.step_tokens or (PATIENT_TOKENS if patient else STEP_TOKENS)) - busy, 1)
        divisible = not self.runner.whole
        return self._prompts.chunks(unready, budget, self.pool.cache.capacity, divisible=divisible)

    def _give(self, ready: Sequence[Running], logits: Tensor) -> list[Request]:
        """Give each of `ready` a token chosen from its logits (ready, vocab)."""
        for one, token in zip(ready, self._choose([one.request for one in ready], logits), strict=True):
            one.ids.append(token)
        return self._end(ready)

    def _choose(self, requests: Sequence[Request], logits: Tensor) -> list[int]:
        """Choose a token for each request from its logits (requests, vocab), and hand it to the request."""
        if self.lockstep is not None and not self.lockstep.leads:
            return self.lockstep.chosen(requests, [])
        chosen = sampler.next_tokens(requests, logits, self.end_tokens)
        for i, request in enumerate(requests):
            if self.runner.forced_last is not None and len(request.tokens) == request.limit - 1:
                chosen[i] = self.runner.forced_last
            request.push(chosen[i], self.end_tokens)
        return self.lockstep.chosen(requests, chosen) if self.lockstep else chosen

    def _end(self, ready: Sequence[Running]) -> list[Request]:
        """Take the rows of those that are finished; returns the requests of all."""
        ended = [one for one in ready if one.request.finish_reason]
        self.pool.save(ended, ended=True)
        for one in ended:
            self._running.remove(one)
            self.pool.release(one)
        return [one.request for one in ready]
