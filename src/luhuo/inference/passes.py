"""The forward passes of a schedule: each row with its adapter, in one compiled step where that is possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from operator import is_

import torch
from torch import Tensor

from luhuo.inference.cache_pool import Running
from luhuo.inference.decode_step import LONGEST, DecodeStep
from luhuo.inference.lockstep import Lockstep
from luhuo.inference.multi_lora import MultiLora
from luhuo.inference.runner import Runner
from luhuo.model.cache import KVCache
from luhuo.model.decoder import Decoder


class Passes:
    """Runs one model. `observed`: states are wanted besides logits."""

    def __init__(self, runner: Runner, *, observed: bool, lockstep: Lockstep | None) -> None:
        self.runner, self.model = runner, runner.model
        decoder = self.model if isinstance(self.model, Decoder) and lockstep is None else None
        self.adapters = MultiLora(decoder) if decoder else None
        self._compiled = DecodeStep.of(decoder) if decoder and not runner.whole and not observed else None
        self._before: list[Running] = []
        """Whose step the compiled one was asked about last."""
        self._follows = lockstep is not None and not lockstep.leads

    def one_token(self, ready: Sequence[Running], cache: KVCache) -> tuple[Tensor, Tensor | None]:
        """Logits (ready, vocab) behind the last token of each of `ready`, and the states (ready, 1, hidden) if known.

        `ready` stand in the order of their rows. Where modules compute it, other rows do into the slot behind their
        end.
        """
        if self.compiles(ready, cache):
            return self.compiled(ready, cache), None
        ids, counts = [0] * cache.batch, [0] * cache.batch
        for one in ready:
            ids[one.row], counts[one.row] = one.ids[-1], 1
        column, rows = torch.tensor(ids, device=self.model.device), [one.row for one in ready]
        all_ready = len(ready) == cache.batch
        real = None if all_ready else torch.tensor(counts, device=column.device)[:, None]
        hidden = self.hidden(column[:, None], real, cache, {one.row: one for one in ready})[:, -1]
        hidden = hidden if all_ready else hidden[rows]
        return self.head(hidden), hidden[:, None]

    @property
    def most(self) -> int:
        """How many tokens of prompts compiled code reads at once; 0: there is none."""
        return self._compiled.most if self._compiled else 0

    def compiles(self, some: Sequence[Running], cache: KVCache) -> bool:
        """Whether all that is pending of some requests, one token or whole prompts, is one call of compiled code."""
        prompts = [one for one in some if one.pending > 1]
        if any(one.adapter is not None for one in prompts):  # what adapters add is computed token by token there
            return False
        longest = max((len(one.ids) for one in prompts), default=1)
        return self._fits(some, cache, sum(one.pending for one in some), longest)

    def compiled(self, some: Sequence[Running], cache: KVCache) -> Tensor:
        """Logits (some, vocab) behind all that was pending of some requests; `compiles` was asked."""
        return self._read(some, [one.ids[one.filled :] for one in some], cache)

    def guessed(self, some: Sequence[Running], drafts: Sequence[Sequence[int]], cache: KVCache) -> Tensor | None:
        """Logits (tokens, vocab) behind the last token of each request and each of its guesses, in compiled code.

        None where that cannot compute them. The cache grows by all of them.
        """
        texts = [[one.ids[-1], *draft] for one, draft in zip(some, drafts, strict=True)]
        # A few tokens may look at however many slots.
        longest = min(LONGEST, max(len(one.ids) + len(draft) for one, draft in zip(some, drafts, strict=True)))
        if not self._fits(some, cache, sum(map(len, texts)), longest):
            return None
        return self._read(some, texts, cache, every=True)

    def guessed_states(self, some: Sequence[Running], drafts: Sequence[Sequence[int]], cache: KVCache) -> Tensor:
        """States (some, time, hidden) of the last token of each request and its guesses, padded on the right.

        Modules compute all rows, others than those of `some` into the slots behind their ends.
        """
        width = 1 + max(map(len, drafts))
        ids = torch.zeros(cache.batch, width, dtype=torch.long)
        counts = torch.zeros(cache.batch, 1, dtype=torch.long)
        for one, draft in zip(some, drafts, strict=True):
            ids[one.row, : 1 + len(draft)] = torch.tensor([one.ids[-1], *draft])
            counts[one.row] = 1 + len(draft)
        real = (torch.arange(width) < counts).int().to(self.model.device)
        hidden = self.hidden(ids.to(self.model.device), real, cache, {one.row: one for one in some})
        return hidden[[one.row for one in some]]

    def _fits(self, some: Sequence[Running], cache: KVCache, tokens: int, longest: int) -> bool:
        if self._compiled is None:
            return False
        slots = self._slots(dict(enumerate(some)), len(some))
        if self.adapters is not None and any(slots):
            self.adapters.put(on=True)
        going_on = not any(slots) and len(some) == len(self._before) and all(map(is_, some, self._before))
        self._before = list(some)
        return self._compiled.fits(cache, tokens, longest, going_on=going_on)

    def _read(
        self, some: Sequence[Running], texts: Sequence[Sequence[int]], cache: KVCache, *, every: bool = False
    ) -> Tensor:
        assert self._compiled is not None
        slots = self._slots(dict(enumerate(some)), len(some))
        return self._compiled.read([one.row for one in some], texts, cache, slots, every=every)

    def hidden(self, ids: Tensor, real: Tensor | None, cache: KVCache, some: Mapping[int, Running]) -> Tensor:
        """The last states (rows, time, hidden) of new tokens; `some` says whose the rows are that are in use."""
        with self.adapters.rows(self._slots(some, len(ids))) if self.adapters else nullcontext():
            return self.runner.hidden(ids, real, cache)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (…, vocab) of states, where tokens are chosen; a process that follows gets them chosen."""
        return hidden if self._follows else self.model.head(hidden)

    def rest(self, running: Sequence[Running]) -> None:
        """Take adapters out of the model's way when none of those that run has one."""
        if self.adapters is not None and all(one.adapter is None for one in running):
            self.adapters.put(on=False)

    def _slots(self, some: Mapping[int, Running], count: int) -> list[int]:
        """The slots of the adapters of `count` rows; 0: none."""
        slots = [0] * count
        for row, one in some.items():
            if one.request.adapter is not None:
                slots[row] = one.request.adapter.slot
        return slots
