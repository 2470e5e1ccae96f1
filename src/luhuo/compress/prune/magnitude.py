"""Pruning by magnitude: the smallest weights go (Han et al. 2015). Needs no data, and is what others are judged by."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from luhuo.compress.prune.target import Target
from luhuo.kernels.sparsity import Scope


def magnitude(weight: Tensor, target: Target, scope: Scope = "row") -> Tensor:
    """The mask of what stays of a matrix (rows, columns): the largest |w| of each row, or of the matrix."""
    return target.mask(weight.float().abs(), scope)


def global_threshold(matrices: Callable[[], Iterable[Tensor]], sparsity: float) -> float:
    """The largest magnitude that goes when the smallest of all matrices together go: |w| > threshold stays.

    Exact, with one matrix held at a time. Positive fp32 numbers are in the order of their bits, so the wanted rank is
    found by counting the upper 16 bits in one pass over `matrices` and the lower 16 of one bucket in a second one.
    Equal magnitudes go together, so a little more may go than asked for.
    """
    high = torch.zeros(1 << 15, dtype=torch.int64)
    for weight in matrices():
        high += torch.bincount(_bits(weight) >> 16, minlength=1 << 15)
    rank = round(sparsity * int(high.sum()))
    if rank == 0:
        return -1.0
    before = high.cumsum(0)
    bucket = int(torch.searchsorted(before, rank))
    rest = rank - (int(before[bucket - 1]) if bucket else 0)
    low = torch.zeros(1 << 16, dtype=torch.int64)
    for weight in matrices():
        bits = _bits(weight)
        low += torch.bincount(bits[bits >> 16 == bucket] & 0xFFFF, minlength=1 << 16)
    found = (bucket << 16) + int(torch.searchsorted(low.cumsum(0), rest))
    return float(torch.tensor(found, dtype=torch.int32).view(torch.float32))


def _bits(weight: Tensor) -> Tensor:
    return weight.detach().float().abs().contiguous().view(torch.int32).flatten()
