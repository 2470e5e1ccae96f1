"""Automatic prefix caching: keys and values of earlier prompts and answers, kept in blocks of tokens.

A block is found by its tokens and the block before it, so equal beginnings are one chain and a hit is always exact
(Zheng et al. 2024 call the chains a radix tree). Rows of the running cache get copies: nothing here is ever written
to, and what has not been used for longest goes first, ends of chains before their beginnings.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luhuo.model.cache import KVCache

BLOCK = 32
"""Tokens of a block."""


@dataclass(eq=False)
class Block:
    """What the cache holds of `BLOCK` tokens, and what they follow."""

    before: Block | Hashable
    """The block before it; of the first one, the adapter that computed it."""
    tokens: tuple[int, ...]
    data: Tensor
    """Bytes (n,) uint8: each tensor of the cache as (heads, BLOCK, features)."""


class PrefixCache:
    """Blocks of the beginnings of texts, least recently used first."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[tuple[Block | Hashable, tuple[int, ...]], Block] = OrderedDict()
        self.asked = self.found = 0
        """Tokens of prompts that were looked up, and those that need not be computed."""

    @property
    def tokens(self) -> int:
        """Tokens that are kept."""
        return len(self._blocks) * BLOCK

    def match(self, ids: Sequence[int], adapter: Hashable = None) -> list[Block]:
        """The longest known beginning of `ids`, without the last token: that one has to be computed."""
        chain = self._chain(ids[:-1], adapter)
        self.asked += len(ids)
        self.found += len(chain) * BLOCK
        self._touch(chain)
        return chain

    def knows(self, ids: Sequence[int], adapter: Hashable = None) -> bool:
        """Whether all whole blocks of `ids` are kept."""
        return len(self._chain(ids, adapter)) == len(ids) // BLOCK

    def load(self, chain: Sequence[Block], cache: KVCache, row: int) -> None:
        """Copy a chain into an empty row of a cache, which must have the room."""
        if not chain:
            return
        count, at = len(chain), 0
        data = torch.stack([block.data for block in chain])
        for kept in _kept(cache):
            size = kept.shape[1] * BLOCK * kept.shape[3] * kept.element_size()
            part = data[:, at : at + size].view(kept.dtype)
            part = part.view(count, kept.shape[1], BLOCK, kept.shape[3]).transpose(0, 1)
            kept[row, :, : count * BLOCK].unflatten(1, (count, BLOCK)).copy_(part)
            at += size
        cache.lengths[row] = count * BLOCK

    def save(self, cache: KVCache, rows: Sequence[tuple[int, Sequence[int]]], room: int, *, adapter: Hashable) -> None:
        """Keep the whole blocks of (row, the ids it holds) that are not there yet, as far as `room` tokens go.

        What is older goes for it.
        """
        missing: list[tuple[int, int, tuple[int, ...]]] = []
        starts = [(row, ids, self._chain(ids, adapter)) for row, ids in rows]
        for row, ids, chain in starts:
            for number in range(len(chain), min(len(ids) // BLOCK, room // BLOCK)):
                missing.append((row, number, tuple(ids[number * BLOCK : number * BLOCK + BLOCK])))
        if missing:
            data = _gather(cache, [row for row, _, _ in missing], [number for _, number, _ in missing])
            place = 0
            for row, ids, chain in starts:
                before: Block | Hashable = chain[-1] if chain else adapter
                while place < len(missing) and missing[place][0] == row:
                    tokens = missing[place][2]
                    block = self._blocks.get((before, tokens))  # two of `rows` may begin alike
                    if block is None:
                        block = Block(before, tokens, data[place].clone())
                        self._blocks[before, tokens] = block
                    before, place = block, place + 1
                self._touch(self._chain(ids, adapter))
        self.shrink(room)

    def shrink(self, room: int) -> None:
        """Forget what has not been used for longest, until at most `room` tokens are kept."""
        while self.tokens > max(room, 0):
            self._blocks.popitem(last=False)

    def forget(self, adapter: Hashable) -> None:
        """Forget what an adapter has computed."""
        for key, block in list(self._blocks.items()):
            first: Block | Hashable = block
            while isinstance(first, Block):
                first = first.before
            if first == adapter:
                del self._blocks[key]

    def clear(self) -> None:
        """Forget everything: the weights have changed."""
        self._blocks.clear()

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
    """All tensors of a cache that hold something, in one order."""
    return [kept for tensors in cache.lists for kept in tensors if kept.shape[1] * kept.shape[3]]


def _gather(cache: KVCache, rows: list[int], numbers: list[int]) -> Tensor:
    """Bytes (pairs, n) of block `numbers[i]` of row `rows[i]`."""
    row, number = torch.tensor(rows, device=cache.device), torch.tensor(numbers, device=cache.device)
    whole = cache.capacity // BLOCK
    parts = []
    for kept in _kept(cache):
        found = kept[:, :, : whole * BLOCK].unflatten(2, (whole, BLOCK))[row, :, number]
        parts.append(found.reshape(len(rows), -1).view(torch.uint8))
    return torch.cat(parts, 1)
