"""Automatic prefix caching: keys and values of earlier prompts and answers, kept in blocks of tokens.

A block is found by its tokens and the block before it, so equal beginnings are one chain and a hit is always exact
(Zheng et al. 2024 call the chains a radix tree). The last block of a chain may be used in part: where texts part
within a block, and where a text ended, whose rest is a shorter block. Rows of the running cache get copies: nothing
here is ever written to, and what has not been used for longest goes first, ends of chains before their beginnings.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luhuo.model.cache import KVCache

BLOCK = 32
"""Tokens of a block; the last one of a text that has ended may have fewer."""
LEAST = 4
"""Tokens for which a part of a block is worth a copy."""
LOOKED_AT = 64
"""Of the blocks that follow one and begin alike, so many are compared at most, the newest first."""


@dataclass(eq=False)
class Block:
    """What the cache holds of some tokens, and what they follow."""

    before: Block | Hashable
    """The block before it; of the first one, the adapter that computed it."""
    tokens: tuple[int, ...]
    data: Tensor
    """Bytes (n,) uint8: each tensor of the cache as (heads, tokens, features)."""


@dataclass(frozen=True)
class Known:
    """The beginning of a text that is kept: so many tokens, in blocks, of whose last one only a part may count."""

    chain: Sequence[Block]
    tokens: int


class PrefixCache:
    """Blocks of the beginnings of texts, least recently used first."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[tuple[Block | Hashable, tuple[int, ...]], Block] = OrderedDict()
        self._next: dict[tuple[Block | Hashable, int], list[Block]] = {}
        """By what they follow and their first token, the oldest first."""
        self.tokens = 0
        """Tokens that are kept."""
        self.asked = self.found = 0
        """Tokens of prompts that were looked up, and those that need not be computed."""

    def match(self, ids: Sequence[int], adapter: Hashable = None) -> Known:
        """The longest known beginning of `ids`, without the last token: that one has to be computed."""
        chain = self._chain(ids[:-1], adapter)
        count = len(chain) * BLOCK
        rest = tuple(ids[count : min(count + BLOCK, len(ids) - 1)])
        part, more = self._part(chain[-1] if chain else adapter, rest)
        if part is not None:
            chain.append(part)
        self.asked += len(ids)
        self.found += count + more
        self._touch(chain)
        return Known(chain, count + more)

    def knows(self, ids: Sequence[int], adapter: Hashable = None) -> bool:
        """Whether all whole blocks of `ids` are kept."""
        return len(self._chain(ids, adapter)) == len(ids) // BLOCK

    def load(self, known: Known, cache: KVCache, row: int) -> None:
        """Copy what is known of a text into an empty row of a cache, which must have the room."""
        whole = known.tokens // BLOCK
        if whole:
            _put(cache, row, 0, torch.stack([block.data for block in known.chain[:whole]]), BLOCK)
        if more := known.tokens % BLOCK:
            last = known.chain[whole]
            _put(cache, row, whole * BLOCK, last.data[None], len(last.tokens), more)
        cache.lengths[row] = known.tokens

    def save(
        self,
        cache: KVCache,
        rows: Sequence[tuple[int, Sequence[int]]],
        room: int,
        *,
        adapter: Hashable,
        rests: bool = False,
    ) -> None:
        """Keep the whole blocks of (row, the ids it holds) that are not there yet, as far as `room` tokens go.

        With `rests` also what is left behind them, of texts that have ended. What is older goes for it.
        """
        missing: list[tuple[int, int, tuple[int, ...]]] = []
        starts = [(row, ids, self._chain(ids, adapter)) for row, ids in rows]
        for row, ids, chain in starts:
            for number in range(len(chain), min(len(ids) // BLOCK, room // BLOCK)):
                missing.append((row, number, tuple(ids[number * BLOCK : number * BLOCK + BLOCK])))
        data = _gather(cache, [row for row, _, _ in missing], [number for _, number, _ in missing]) if missing else []
        place = 0
        for row, ids, chain in starts:
            before: Block | Hashable = chain[-1] if chain else adapter
            while place < len(missing) and missing[place][0] == row:
                tokens = missing[place][2]
                block = self._blocks.get((before, tokens))  # two of `rows` may begin alike
                before, place = block or self._add(Block(before, tokens, data[place].clone())), place + 1
            chain = self._chain(ids, adapter)
            rest = tuple(ids[len(chain) * BLOCK :])
            if rests and LEAST <= len(rest) < BLOCK and len(ids) <= room:
                part, known = self._part(before, rest)
                if part is None or known < len(rest):
                    part = self._add(Block(before, rest, _rest(cache, row, len(ids) - len(rest), len(ids))))
                chain.append(part)
            self._touch(chain)
        self.shrink(room)

    def shrink(self, room: int) -> None:
        """Forget what has not been used for longest, until at most `room` tokens are kept."""
        while self.tokens > max(room, 0):
            self._remove(next(iter(self._blocks.values())))

    def forget(self, adapter: Hashable) -> None:
        """Forget what an adapter has computed."""
        for block in list(self._blocks.values()):
            first: Block | Hashable = block
            while isinstance(first, Block):
                first = first.before
            if first == adapter:
                self._remove(block)

    def clear(self) -> None:
        """Forget everything: the weights have changed."""
        self._blocks.clear()
        self._next.clear()
        self.tokens = 0

    def _add(self, block: Block) -> Block:
        """Keep a block; shorter ones that it begins with say nothing more."""
        alike = self._next.setdefault((block.before, block.tokens[0]), [])
        for other in [one for one in alike[-LOOKED_AT:] if one.tokens == block.tokens[: len(one.tokens)]]:
            self._remove(other)
        self._next.setdefault((block.before, block.tokens[0]), alike).append(block)
        self._blocks[block.before, block.tokens] = block
        self.tokens += len(block.tokens)
        return block

    def _remove(self, block: Block) -> None:
        del self._blocks[block.before, block.tokens]
        alike = self._next[block.before, block.tokens[0]]
        alike.remove(block)
        if not alike:
            del self._next[block.before, block.tokens[0]]
        self.tokens -= len(block.tokens)

    def _part(self, before: Block | Hashable, rest: tuple[int, ...]) -> tuple[Block | None, int]:
        """The block behind `before` that begins like `rest` for longest, and how many tokens they share."""
        best, most = None, LEAST - 1
        for block in self._next.get((before, rest[0]), ())[-LOOKED_AT:] if len(rest) >= LEAST else ():
            if block.tokens[: most + 1] == rest[: most + 1]:
                shared = next((i for i, (a, b) in enumerate(zip(block.tokens, rest, strict=False)) if a != b), None)
                best, most = block, min(len(block.tokens), len(rest)) if shared is None else shared
                if most == len(rest):
                    break
        return best, most if best is not None else 0

    def _chain(self, ids: Sequence[int], adapter: Hashable) -> list[Block]:
        chain: list[Block] = []
        before: Block | Hashable = adapter
        for start in range(0, len(ids) - BLOCK + 1, BLOCK):
            block = self._blocks.get((before, tuple(ids[start : start + BLOCK])))
            if block is None:
                break
            chain.append(block)
            before = block
        return chain

    def _touch(self, chain: Sequence[Block]) -> None:
        """Mark as used, the beginning last: so the first of all is always the end of a chain."""
        for block in reversed(chain):
            self._blocks.move_to_end((block.before, block.tokens))


def _kept(cache: KVCache) -> list[Tensor]:
    """All tensors of a cache that hold something, in one order: wide numbers first, so that each begins at a multiple
    of its width."""
    found = [kept for tensors in cache.lists for kept in tensors if kept.shape[1] * kept.shape[3]]
    return sorted(found, key=lambda kept: -kept.element_size())


def _put(cache: KVCache, row: int, start: int, data: Tensor, size: int, count: int | None = None) -> None:
    """Copy blocks (blocks, n) of `size` tokens, or the first `count` tokens of one, into a row from `start` on."""
    at, blocks = 0, len(data)
    for kept in _kept(cache):
        length = kept.shape[1] * size * kept.shape[3] * kept.element_size()
        part = data[:, at : at + length] if blocks > 1 else data[0, at : at + length]
        part = part.view(kept.dtype).view(blocks, kept.shape[1], size, kept.shape[3]).transpose(0, 1)[:, :, :count]
        kept[row, :, start : start + blocks * part.shape[2]].unflatten(1, (blocks, -1)).copy_(part)
        at += length


def _rest(cache: KVCache, row: int, start: int, end: int) -> Tensor:
    """Bytes (n,) of what a row holds from one token to another."""
    return torch.cat([kept[row, :, start:end].reshape(-1).view(torch.uint8) for kept in _kept(cache)])


def _gather(cache: KVCache, rows: list[int], numbers: list[int]) -> Tensor:
    """Bytes (pairs, n) of block `numbers[i]` of row `rows[i]`."""
    row, number = torch.tensor(rows, device=cache.device), torch.tensor(numbers, device=cache.device)
    whole = cache.capacity // BLOCK
    parts = []
    for kept in _kept(cache):
        found = kept[:, :, : whole * BLOCK].unflatten(2, (whole, BLOCK))[row, :, number]
        parts.append(found.reshape(len(rows), -1).view(torch.uint8))
    return torch.cat(parts, 1)
