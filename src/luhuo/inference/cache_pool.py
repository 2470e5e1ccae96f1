"""Rows of one cache for the requests that run, and the beginnings of earlier texts, within one budget of tokens.

Running requests come first: what is kept of earlier texts gives way to them, and has at most half of the budget.
A row that nobody has taken since its request ended is gone on with where a new text begins like the old one: the next
turn of a conversation then finds its history in place, without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from luhuo.inference.prefix_cache import LEAST, Known, PrefixCache
from luhuo.inference.request import Request
from luhuo.model.cache import KVCache

ROUNDING = 64
"""The cache grows by so many slots at least, where the budget allows it."""


@dataclass(eq=False)
class Running:
    """A request with its row of the cache."""

    request: Request
    ids: list[int]
    """What the model reads: prompt and answer so far."""
    number: int = 0
    """The order in which requests came."""
    most: int = 0
    """How long that can become."""
    row: int = -1
    filled: int = 0
    """How many of them are in the cache."""
    patient: bool = False
    """Whether nobody reads along, so that steps may be long."""
    guesses: int = 4
    """How many tokens to guess at next."""

    @property
    def adapter(self) -> int | None:
        """What besides the tokens decides what is cached: the serial of the adapter in use."""
        return None if self.request.adapter is None else self.request.adapter.serial

    @property
    def room(self) -> int:
        """Tokens that may still come behind the next one."""
        return self.most - len(self.ids) - 1

    @property
    def pending(self) -> int:
        """Tokens that are not in the cache; with one, the next forward pass gives the next token."""
        return len(self.ids) - self.filled


class CachePool:
    """A cache of `tokens` slots at most. `prefixes`: whether beginnings are kept for later requests."""

    def __init__(self, cache: KVCache, tokens: int, *, prefixes: bool) -> None:
        self.cache, self.tokens = cache, tokens
        self.prefix = PrefixCache() if prefixes else None
        self.beside = 0
        """Slots that every row takes besides the cache's own (an encoded text)."""
        self._resting: dict[int, tuple[int | None, Sequence[int]]] = {}
        """What rows still hold of requests that gave them back: the adapter, and the ids."""

    def place(self, running: list[Running], group: Sequence[Running]) -> None:
        """Give rows to the requests of `group`, with what is known of their prompts, and add them to `running`."""
        new = []
        for one in group:
            known = self.prefix.match(one.ids, one.adapter) if self.prefix else Known((), 0)
            if self._go_on(one, known.tokens):
                running.append(one)
            else:
                new.append((one, known))
        if new:
            self._place_new(running, new)

    def _place_new(self, running: list[Running], new: Sequence[tuple[Running, Known]]) -> None:
        """The same for requests whose prompts lie in no row."""
        known = max(start.tokens for _, start in new)
        count = len(running) + len(new)
        wanted = max(known, min(ROUNDING, self.tokens // count - self.beside))
        if (
            count > self.cache.batch
            or self.cache.batch * (max(self.cache.capacity, wanted) + self.beside) > self.tokens
        ):
            fitting = max(self.tokens // count - self.beside, self.cache.longest, known)
            self.compact(running, count, min(max(self.cache.capacity, wanted), fitting))
        elif wanted > self.cache.capacity:
            self._resize(range(self.cache.batch), wanted)
        used = {one.row for one in running}
        free = [row for row in range(self.cache.batch) if row not in used]
        free.sort(key=self._resting.__contains__)  # what may be gone on with is taken last
        for (one, start), row in zip(new, free, strict=False):
            self._fill(one, row, start)
            running.append(one)

    def _go_on(self, one: Running, known: int) -> bool:
        """Give a request the row that holds the most of its prompt, if that is as much as `known` elsewhere."""
        shared = {
            row: _alike(ids, one.ids)
            for row, (adapter, ids) in self._resting.items()
            if adapter == one.adapter and len(ids) >= known
        }
        row = max(shared, key=lambda row: shared[row], default=-1)
        if row < 0 or shared[row] < max(known, LEAST):
            return False
        assert self.prefix is not None
        del self._resting[row]
        self.prefix.found += shared[row] - known
        self._begin(one, row, shared[row])
        return True

    def compact(self, running: Sequence[Running], count: int, width: int) -> None:
        """Keep the rows in use, in front of empty ones, `count` in all, each of `width` slots."""
        rows: list[int | None] = [one.row for one in running]
        for row, one in enumerate(running):
            one.row = row
        self._resize(rows + [None] * (count - len(rows)), width)

    def shrink(self, running: Sequence[Running]) -> None:
        """Remove empty rows once a quarter is empty: they cost as much as others."""
        if not running:
            self.idle()
        elif (self.cache.batch - len(running)) * 4 >= self.cache.batch:
            self.compact(running, len(running), self.cache.capacity)

    def widen(self, slots: int) -> bool:
        """Make rows of `slots` slots; False where the budget does not allow it."""
        have, rows = self.cache.capacity, self.cache.batch
        if slots <= have:
            return True
        generous = max(slots, have + have // 2) + ROUNDING
        generous -= generous % ROUNDING
        for width, room in (
            (generous, self.tokens - self.kept),
            (slots + ROUNDING, self.tokens),
            (slots, self.tokens),
        ):
            if rows * (width + self.beside) <= room:
                self._resize(range(rows), width)
                return True
        return False

    @property
    def kept(self) -> int:
        """Tokens of earlier texts."""
        return self.prefix.tokens if self.prefix else 0

    def save(self, some: Sequence[Running], *, ended: bool) -> None:
        """Keep what the cache holds of these requests for later ones; of those that have `ended` to the last token."""
        if self.prefix is None:
            return
        room = min(self.tokens // 2, self.tokens - self.cache.batch * self.cache.capacity)
        for adapter in {one.adapter for one in some}:
            rows = [(o.row, o.ids[: o.filled]) for o in some if o.adapter == adapter]
            self.prefix.save(self.cache, rows, room, adapter=adapter, rests=ended)

    def release(self, one: Running) -> None:
        """Take a request's row from it; it would have to be computed again."""
        if one.row >= 0:
            self.cache.lengths[one.row] = 0
            if self.prefix is not None:
                self._resting[one.row] = one.adapter, one.ids[: one.filled]
        one.row, one.filled = -1, 0

    def disturb(self) -> None:
        """Empty rows were written to, or the weights have changed: what they held is lost."""
        self._resting.clear()

    def idle(self) -> None:
        """Free the memory of the rows. A single one stays for the next turn of its conversation."""
        if self.cache.batch != 1 or not self._resting:
            self.drop()

    def drop(self) -> None:
        """Free the memory of the rows."""
        self._resting.clear()
        if self.cache.batch:
            self.cache.resize([], 0)

    def _fill(self, one: Running, row: int, known: Known) -> None:
        self._resting.pop(row, None)
        self.cache.lengths[row] = 0
        if self.prefix:
            self.prefix.load(known, self.cache, row)
        self._begin(one, row, self.cache.lengths[row])

    def _begin(self, one: Running, row: int, filled: int) -> None:
        one.row, one.filled, self.cache.lengths[row] = row, filled, filled
        if not one.request.tokens:
            one.request.cached_tokens = one.filled

    def _resize(self, rows: Sequence[int | None], width: int) -> None:
        self._resting.clear()
        if self.prefix:
            self.prefix.shrink(self.tokens - len(rows) * width)
        self.cache.resize(rows, width)


def _alike(kept: Sequence[int], ids: Sequence[int]) -> int:
    """How many tokens two texts begin with alike, without the last of `ids`: that one has to be computed."""
    most = min(len(kept), len(ids) - 1)
    if kept[:most] == ids[:most]:
        return most
    return next(i for i, (a, b) in enumerate(zip(kept, ids, strict=False)) if a != b)
