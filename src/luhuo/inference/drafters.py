"""Where the guesses of speculative decoding come from: the text itself, a smaller model, the model's own heads."""

from __future__ import annotations

from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.inference import sampler
from luhuo.inference.cache_pool import Running
from luhuo.inference.request import Request
from luhuo.model.cache import KVCache
from luhuo.model.decoder import Decoder

LONGEST, SHORTEST = 4, 2
"""Tokens of the n-grams that are looked up."""


class Drafter(Protocol):
    """Where guesses come from."""

    needs_hidden: bool
    """Whether it wants the model's last states."""

    def propose(self, one: Running, count: int) -> list[int]:
        """At most `count` guesses at what follows `one.ids`."""
        ...

    def observe(self, one: Running, hidden: Tensor) -> None:
        """The model's last states (tokens, hidden) of the tokens that follow those observed before."""
        ...

    def forget(self) -> None:
        """The weights have changed."""
        ...


class PromptLookup:
    """Guesses that what followed the last few tokens the last time will follow them again (Saxena 2023)."""

    needs_hidden = False

    def __init__(self) -> None:
        self._seen: WeakKeyDictionary[Running, tuple[dict[tuple[int, ...], int], list[int]]] = WeakKeyDictionary()

    def propose(self, one: Running, count: int) -> list[int]:
        """What stands behind the last place of the longest known n-gram that the text ends with."""
        ends, known = self._seen.setdefault(one, ({}, [0]))
        ids = one.ids
        for end in range(max(known[0], SHORTEST), len(ids)):  # the n-grams that end in front of `end`
            for size in range(SHORTEST, LONGEST + 1):
                if size <= end:
                    ends[tuple(ids[end - size : end])] = end
        known[0] = len(ids)
        for size in range(min(LONGEST, len(ids)), SHORTEST - 1, -1):
            place = ends.get(tuple(ids[-size:]))
            if place is not None:
                return ids[place : place + count]
        return []

    def observe(self, one: Running, hidden: Tensor) -> None:
        """Nothing to see."""

    def forget(self) -> None:
        """Texts stay what they are."""


class DraftModel:
    """Guesses of a smaller model with the same tokenizer, which keeps a cache of its own for each request."""

    needs_hidden = False

    def __init__(self, model: Decoder, target: Decoder) -> None:
        if _tokens(model) != _tokens(target):
            raise LuhuoError(
                tr("The draft model has another tokenizer.", "草稿模型的分词器不同。"),
                expected=tr("the tokenizer of the model itself", "与主模型相同的分词器"),
                fix=tr("Use a smaller model of the same family.", "请使用同一系列的较小模型。"),
            )
        self.model = model
        self._caches: WeakKeyDictionary[Running, tuple[KVCache, list[int]]] = WeakKeyDictionary()

    def propose(self, one: Running, count: int) -> list[int]:
        """What the model would write, as long as its context lasts."""
        model = self.model
        count = min(count, model.config.max_positions - len(one.ids))
        if count < 1:
            return []
        if one not in self._caches:
            self._caches[one] = KVCache(model.config, 1, len(one.ids) + count, model.dtype, model.device), []
        cache, read = self._caches[one]
        same = next((i for i, (a, b) in enumerate(zip(read, one.ids, strict=False)) if a != b), len(read))
        cache.truncate([min(same, len(one.ids) - 1)])
        del read[cache.lengths[0] :]
        found: list[int] = []
        for chance in one.request.peek(count):
            new = [*one.ids, *found][len(read) :]
            hidden = model.hidden(torch.tensor([new], device=model.device), cache=cache)[:, -1]
            read += new
            found.append(guess(model.head(hidden), one.request, chance))
        return found

    def observe(self, one: Running, hidden: Tensor) -> None:
        """It has states of its own."""

    def forget(self) -> None:
        """It is another model."""


class PredictionHeads:
    """Guesses of the model's own multi-token prediction (DeepSeek-V3 2024, section 2.2), one for each depth.

    Depth k reads at place i the states of the depth above and the token k + 1 places further. What it cached for
    guessed tokens is computed again when the real ones are known.
    """

    needs_hidden = True

    def __init__(self, model: Decoder) -> None:
        self.model = model
        self._states: WeakKeyDictionary[Running, _Depths] = WeakKeyDictionary()

    def propose(self, one: Running, count: int) -> list[int]:
        """One guess a depth; none before the model's states are known."""
        state = self._states.get(one)
        if state is None or state.end != len(one.ids) - 1:
            return []
        return state.propose(self.model, one)[:count]

    def observe(self, one: Running, hidden: Tensor) -> None:
        """States of further tokens; of those that were found in the cache there are none, which costs guesses only."""
        state = self._states.get(one)
        if state is None or state.end != one.filled - len(hidden):
            state = self._states[one] = _Depths(self.model, one.filled - len(hidden))
        state.take(hidden)

    def forget(self) -> None:
        """All states were the old weights'."""
        self._states.clear()


class _Depths:
    """Of one request, from place `start` of its text on: what each depth has cached, and what it has yet to read."""

    def __init__(self, model: Decoder, start: int) -> None:
        self.start = self.end = start
        self.caches = [model.mtp_cache(1) for _ in model.mtp]
        self.waiting: list[list[Tensor]] = [[] for _ in model.mtp]
        """For each depth the states (1, n, hidden) of the depth above that follow those it has cached for good."""

    def take(self, hidden: Tensor) -> None:
        self.waiting[0].append(hidden[None])
        self.end += hidden.shape[0]

    def propose(self, model: Decoder, one: Running) -> list[int]:
        found: list[int] = []
        for depth, chance in enumerate(one.request.peek(len(self.caches))):
            cache, states = self.caches[depth], torch.cat(self.waiting[depth], 1)
            first = self.start + cache.lengths[0]
            text = [*one.ids, *found]
            ids = torch.tensor([text[first + depth + 1 :]], device=model.device)
            states = states[:, : ids.shape[1]]
            places = torch.arange(first, first + ids.shape[1], device=model.device)[None]
            hidden = model.mtp_hidden(depth, states, ids, positions=places, cache=cache)
            found.append(guess(model.head(hidden[:, -1]), one.request, chance))
            # Final is what read real tokens only: places up to len(ids) - 2 - depth.
            final = max(0, len(one.ids) - 1 - depth - first)
            cache.truncate([first - self.start + final])
            self.waiting[depth] = [states[:, final:]]
            if depth + 1 < len(self.caches):
                below = self.waiting[depth + 1]
                known = self.start + self.caches[depth + 1].lengths[0] + sum(s.shape[1] for s in below)
                self.waiting[depth + 1] = [*below, hidden[:, max(0, known - first) :]]
        self._keep_final(len(one.ids))
        return found

    def _keep_final(self, length: int) -> None:
        """Drop the states of the depths above that rest on guesses; they come again."""
        for depth in range(1, len(self.caches)):
            cached = self.start + self.caches[depth].lengths[0]
            states = self.waiting[depth]
            if states:
                self.waiting[depth] = [torch.cat(states, 1)[:, : max(0, length - 1 - depth - cached + 1)]]


def guess(logits: Tensor, request: Request, chance: float) -> int:
    """The token that would be chosen from these logits (1, vocab), penalties and constraints aside."""
    return int(sampler.choose(logits, [request.sampling], [chance])[0])


def _tokens(model: Decoder) -> list[str] | int:
    """All tokens by number, or how many there are."""
    tokenizer = model.tokenizer
    if tokenizer is None:
        return model.config.vocab_size
    return [tokenizer.token_text(number) for number in range(tokenizer.vocab_size)]
