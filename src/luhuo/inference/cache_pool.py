"""Rows of one cache for the requests that run, and the beginnings of earlier texts, within one budget of tokens.

Running requests come first: what is kept of earlier texts gives way to them, and has at most half of the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from luhuo.inference.prefix_cache import Known, PrefixCache
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

    def place(self, running: list[Running], group: Sequence[Running]) -> None:
        """Give rows to the requests of `group`, with what is known of their prompts, and add them to `running`."""
        found = [self.prefix.match(one.ids, one.adapter) if self.prefix else Known((), 0) for one in group]
        known = max(one.tokens for one in found)
        count = len(running) + len(group)
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
        for one, row, start in zip(group, free, found, strict=False):
            self._fill(one, row, start)
            running.append(one)

    def compact(self, running: Sequence[Running], count: int, width: int) -> None:
        """Keep the rows in use, in front of empty ones, `count` in all, each of `width` slots."""
        rows: list[int | None] = [one.row for one in running]
        for row, one in enumerate(running):
            one.row = row
        self._resize(rows + [None] * (count - len(rows)), width)

    def shrink(self, running: Sequence[Running]) -> None:
        """Remove empty rows once a quarter is empty: they cost as much as others."""
        if not running:
            self.drop()
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
        one.row, one.filled = -1, 0

    def drop(self) -> None:
        """Free the memory of the rows."""
        if self.cache.batch:
            self.cache.resize([], 0)

    def _fill(self, one: Running, row: int, known: Known) -> None:
        one.row, self.cache.lengths[row] = row, 0
        if self.prefix:
            self.prefix.load(known, self.cache, row)
        one.filled = self.cache.lengths[row]
        if not one.request.tokens:
            one.request.cached_tokens = one.filled

    def _resize(self, rows: Sequence[int | None], width: int) -> None:
        if self.prefix:
            self.prefix.shrink(self.tokens - len(rows) * width)
        self.cache.resize(rows, width)
