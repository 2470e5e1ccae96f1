"""Distances between tokens, sorted into buckets: exact where they are near, logarithmic where they are far."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def t5_buckets(distance: Tensor, buckets: int, longest: int, *, both_ways: bool) -> Tensor:
    """Bucket of each distance (key's position less query's), Raffel et al. 2020, section 2.1.

    Half of the buckets hold one distance each, the others grow up to `longest`. Looking `both_ways`, the second half
    of all is for keys that follow; otherwise those fall together with distance 0.
    """
    offset = torch.zeros_like(distance)
    if both_ways:
        buckets //= 2
        offset = (distance > 0).long() * buckets
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    exact = buckets // 2
    share = torch.log(distance.clamp(min=1).float() / exact) / math.log(longest / exact)
    far = (exact + (share * (buckets - exact)).long()).clamp(max=buckets - 1)
    return offset + torch.where(distance < exact, distance, far)


def deberta_rows(time: int, span: int, buckets: int, longest: int, device: torch.device) -> Tensor:
    """Row in the table of distances (time, time) int64 for query i and key j (He et al. 2021, equation 3).

    Distances i - j count from `span`, cut off at both ends. With `buckets`, those beyond half of them grow
    logarithmically up to `longest`, which gets the last one.
    """
    index = torch.arange(time, device=device)
    distance = index[:, None] - index
    if buckets:
        middle = buckets // 2
        size = distance.abs()
        base = torch.log(torch.tensor((longest - 1) / middle))
        share = torch.log(size.clamp(min=middle) / middle) / base
        far = torch.ceil(share * (middle - 1)).long() + middle
        distance = torch.where(size <= middle, distance, far * distance.sign())
    return (distance + span).clamp(0, 2 * span - 1)
