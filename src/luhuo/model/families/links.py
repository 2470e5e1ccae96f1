"""How published tensors become our parameters, and back: a `Link` for each parameter, made by one of these functions.

`split` is the exact inverse of `join`; both are only views and copies, so a round trip gives back every bit. The
shapes to expect in a file follow from `split` on the empty parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Link:
    """One of our parameters and the published tensors it is made of."""

    ours: str
    theirs: tuple[str, ...]
    join: Callable[[Sequence[Tensor]], Tensor]
    """Published tensors to our parameter."""
    split: Callable[[Tensor], list[Tensor]]
    """Our parameter to the published tensors; works on the meta device too."""
    experts: int | None = None
    """Of a parameter with a matrix for each expert that is published as matrices: how many experts."""


def same(ours: str, theirs: str) -> Link:
    """The tensor as it is."""
    return Link(ours, (theirs,), lambda parts: parts[0], lambda tensor: [tensor])


def reshaped(ours: str, theirs: str, shape: Sequence[int], here: Sequence[int]) -> Link:
    """The same numbers, published in another shape; `here` is ours."""
    there, own = tuple(shape), tuple(here)
    return Link(ours, (theirs,), lambda parts: parts[0].reshape(own), lambda tensor: [tensor.reshape(there)])


def transposed(ours: str, theirs: str) -> Link:
    """A matrix kept as (inputs, outputs), as GPT-2 does."""
    return Link(ours, (theirs,), lambda parts: parts[0].mT, lambda tensor: [tensor.mT])


def rows(ours: str, theirs: Iterable[tuple[str, int]]) -> Link:
    """Several tensors under one another, each with its number of rows."""
    names, sizes = zip(*theirs, strict=True)
    return Link(ours, tuple(names), lambda parts: torch.cat(list(parts)), lambda tensor: list(tensor.split(sizes)))


def permuted(ours: str, theirs: str, order: Tensor) -> Link:
    """The published rows in another order: ours[i] is theirs[order[i]]."""
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return Link(ours, (theirs,), lambda parts: parts[0][order], lambda tensor: [tensor[back.to(tensor.device)]])


def grouped_order(heads: int, kv_heads: int, head_dim: int) -> Tensor:
    """Order for `permuted` of a published projection with, for each key head, its queries, its key and its value.

    With kv_heads = heads that is (head, 3, head_dim), as GPT-NeoX and BLOOM have it.
    """
    group = heads // kv_heads
    index = torch.arange((heads + 2 * kv_heads) * head_dim).view(kv_heads, group + 2, head_dim)
    return torch.cat([part.reshape(-1) for part in index.split([group, 1, 1], 1)])


def stacked(ours: str, theirs: Sequence[Sequence[str]], sizes: Sequence[int]) -> Link:
    """One entry for each expert; an expert's tensors stand under one another, with `sizes` rows each."""
    width = len(sizes)
    names = tuple(name for expert in theirs for name in expert)
    borders = list(pairwise(range(0, len(names) + 1, width)))

    def join(parts: Sequence[Tensor]) -> Tensor:
        return torch.stack([torch.cat(list(parts[a:b])) for a, b in borders])

    def split(tensor: Tensor) -> list[Tensor]:
        return [part for expert in tensor for part in expert.split(list(sizes))]

    return Link(ours, names, join, split, len(theirs))
