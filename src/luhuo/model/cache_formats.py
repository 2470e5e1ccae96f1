"""Keys and values in few bits: int8 with a scale for each vector, int4 with scales and lows for groups of features.

int4 is asymmetric, and has smaller groups for keys than for values, because keys lie far off zero in some features
(Liu et al. 2024, KIVI, figure 2; bench/cache.py). Two numbers share a byte. Attention gets all of it widened. Which
features share a group is fixed, so what is kept of a token depends on nothing but the token.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

LEVELS = 127
"""Largest magnitude of an int8 number."""
INT4: torch.dtype = torch.int4  # pyright: ignore[reportAttributeAccessIssue]  # no tensor is made of it: a name
KEYS, VALUES = 16, 32
"""Features of a key and of a value that share a scale and a low in int4; half as many, and so on, where these do not
divide a vector."""
MOST = 65504.0
"""The largest number of fp16, in which scales and lows of int4 are kept."""


def kept_in(stored: torch.dtype, width: int, most: int) -> tuple[torch.dtype, int, torch.dtype, int]:
    """The tensors for vectors of `width` features, at most `most` of which share a scale of int4: dtype and width of
    the numbers, and of what scales them."""
    if stored == torch.int8:
        return stored, width, torch.float32, 1
    if stored == INT4:
        if width % 2:
            raise LuhuoError(
                tr("A cache in int4 needs an even number of features.", "int4 缓存要求特征数为偶数。"),
                found=width,
                fix=tr("Use cache_dtype=int8.", "请用 cache_dtype=int8。"),
            )
        return torch.uint8, width // 2, torch.float16, 2 * (width // group_of(width, most)) if width else 0
    return stored, width, torch.float32, 0


def group_of(width: int, most: int) -> int:
    """Features of a group of int4."""
    return math.gcd(width, most)


def kept_bytes(stored: torch.dtype, width: int, most: int) -> int:
    """What a vector takes."""
    numbers, count, scales, scale_count = kept_in(stored, width, most)
    return count * numbers.itemsize + scale_count * scales.itemsize


def quantise(x: Tensor, stored: torch.dtype, most: int) -> tuple[Tensor, Tensor]:
    """Numbers and scales of x (…, features) as `kept_in` says."""
    x, (numbers, _, scales, count) = x.float(), kept_in(stored, x.shape[-1], most)
    if not x.shape[-1]:
        return x.to(numbers), x.new_zeros(*x.shape[:-1], count, dtype=scales)
    if stored == torch.int8:
        scale = x.abs().amax(-1, keepdim=True) / LEVELS
        return (x / scale.clamp(min=torch.finfo(torch.float32).tiny)).round_().to(torch.int8), scale
    grouped = x.unflatten(-1, (-1, group_of(x.shape[-1], most)))
    low = grouped.amin(-1, keepdim=True).clamp_(-MOST, MOST).half()
    scale = ((grouped.amax(-1, keepdim=True) - low.float()) / 15).clamp_(0, MOST).half()
    step = scale.float()
    q = (grouped - low.float()).div_(torch.where(step > 0, step, 1.0)).round_().clamp_(0, 15)
    q = q.to(torch.uint8).flatten(-2)
    return q[..., ::2] | q[..., 1::2] << 4, torch.cat([scale, low], -1).flatten(-2)


def widened(numbers: Tensor, scales: Tensor, stored: torch.dtype, dtype: torch.dtype) -> Tensor:
    """The vectors (…, features) that `quantise` was given, in `dtype`."""
    if stored == torch.int8:
        return numbers.to(dtype) * scales.to(dtype)
    q = torch.stack([numbers & 15, numbers >> 4], -1).flatten(-2)
    if not q.shape[-1]:
        return q.to(dtype)
    pairs = scales.unflatten(-1, (-1, 2)).float()
    grouped = q.unflatten(-1, (pairs.shape[-2], -1)).float()
    return (grouped * pairs[..., :1] + pairs[..., 1:]).flatten(-2).to(dtype)
