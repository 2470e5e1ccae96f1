"""Which attention heads stay: whole groups of query heads with their key head, and as many query heads in each group.

A head is worth what the residual stream loses without it (`refit.worth` of its columns of the output matrix), which
takes into account what the others can make up for (Minitron, Muralidharan et al. 2024, ranks by the norm of a head's
output alone).
"""

from __future__ import annotations

import torch
from torch import Tensor

from luhuo.compress.prune.refit import worth


def columns_of(heads: Tensor, size: int) -> Tensor:
    """The columns of the output matrix, or rows of a projection, that belong to these heads of `size` features."""
    return (heads[:, None] * size + torch.arange(size)).flatten()


def choose_heads(
    out: Tensor, moment: Tensor, heads: int, kv_heads: int, wanted: int, wanted_kv: int, damping: float = 0.01
) -> Tensor:
    """The heads (wanted,) that stay, in order, of the output matrix `out` (hidden, heads · size) whose inputs have the
    second moment `moment`: `wanted_kv` whole groups are chosen first, then `wanted` / `wanted_kv` heads in each."""
    size, each = out.shape[1] // heads, heads // kv_heads
    every = torch.arange(heads).view(kv_heads, each)
    groups = every
    if wanted_kv < kv_heads:
        values = worth(out, moment, [columns_of(group, size) for group in every], damping)
        groups = every[_best(values, wanted_kv)]
    if wanted == wanted_kv * each:
        return groups.flatten()
    values = worth(out, moment, [columns_of(head[None], size) for head in groups.flatten()], damping)
    values = values.view(wanted_kv, each)
    chosen = [group[_best(row, wanted // wanted_kv)] for group, row in zip(groups, values, strict=True)]
    return torch.cat(chosen)


def key_heads(heads: Tensor, each: int) -> Tensor:
    """The key heads of these query heads, in order, where `each` query heads share one."""
    return torch.unique(heads // each)


def _best(values: Tensor, count: int) -> Tensor:
    """Places of the highest values, in order; the first of equal ones."""
    return values.argsort(descending=True, stable=True)[:count].sort().values
