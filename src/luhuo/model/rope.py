"""Rotary positions: their frequencies, stretched for long contexts or not, and the tables of one forward pass."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from luhuo.model.config import RopeConfig


def tables(
    rope: RopeConfig, dim: int, positions: Tensor, length: int, max_positions: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines (…, T, 1, dim) for positions (…, T).

    Neighbouring features (2i, 2i + 1) are a pair if `rope.interleaved`, otherwise (i, i + dim / 2). The sine of a
    pair's first feature carries the minus sign of the rotation. `length` is the context the positions lie in.
    """
    inverse, scale = frequencies(rope, dim, length, max_positions)
    angles = positions[..., None].float() * inverse.to(positions.device)  # (…, T, dim / 2)
    cos, sin = angles.cos() * scale, angles.sin() * scale
    if rope.interleaved:
        cos, sin = torch.stack([cos, cos], -1).flatten(-2), torch.stack([-sin, sin], -1).flatten(-2)
    else:
        cos, sin = torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)
    return cos.unsqueeze(-2).to(dtype), sin.unsqueeze(-2).to(dtype)


def frequencies(rope: RopeConfig, dim: int, length: int, max_positions: int) -> tuple[Tensor, float]:
    """Angle per position of each pair (dim / 2,) fp32, and the factor on cosines and sines.

    linear: Chen et al. 2023; dynamic: NTK-aware with the base growing with the context; yarn: Peng et al. 2023;
    longrope: Ding et al. 2024; llama3: the frequency bands of Llama 3.1.
    """
    exponents = torch.arange(0, dim, 2, dtype=torch.float32) / dim
    plain = rope.theta**-exponents
    if rope.kind == "linear":
        return plain / rope.factor, 1.0
    if rope.kind == "dynamic":
        longer = rope.factor * max(length, max_positions) / max_positions - (rope.factor - 1)
        return (rope.theta * longer ** (dim / (dim - 2))) ** -exponents, 1.0
    original = rope.original_positions or max_positions
    if rope.kind == "llama3":
        return _llama3(plain, rope, original), 1.0
    if rope.kind == "yarn":
        return _yarn(plain, rope, dim, original), _yarn_scale(rope)
    if rope.kind == "longrope":
        factors = rope.long_factors if length > original else rope.short_factors
        return plain / torch.tensor(factors), _longrope_scale(rope, max_positions / original, original)
    return plain, 1.0


def _llama3(plain: Tensor, rope: RopeConfig, original: int) -> Tensor:
    """Fast turns stay, slow ones are divided by the factor, those between are blended by their turns."""
    turns = original * plain / (2 * math.pi)
    blend = ((turns - rope.low_factor) / (rope.high_factor - rope.low_factor)).clamp(0, 1)
    return plain * (blend + (1 - blend) / rope.factor)


def _yarn(plain: Tensor, rope: RopeConfig, dim: int, original: int) -> Tensor:
    """Like llama3's, with the blend linear in the feature's index instead of its turns."""

    def feature(turns: float) -> float:
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = feature(rope.beta_fast), feature(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    stretched = ((torch.arange(dim // 2) - low) / (high - low if high > low else 0.001)).clamp(0, 1)
    return plain * (stretched / rope.factor + 1 - stretched)


def yarn_mscale(factor: float, weight: float = 1.0) -> float:
    """1 + 0.1 · weight · ln(factor): how much sharper attention has to be over a longer context."""
    return 1.0 if factor <= 1 else 1 + 0.1 * weight * math.log(factor)


def _yarn_scale(rope: RopeConfig) -> float:
    if rope.attention_factor is not None:
        return rope.attention_factor
    if rope.mscale and rope.mscale_all_dim:
        return yarn_mscale(rope.factor, rope.mscale) / yarn_mscale(rope.factor, rope.mscale_all_dim)
    return yarn_mscale(rope.factor)


def _longrope_scale(rope: RopeConfig, ratio: float, original: int) -> float:
    if rope.attention_factor is not None:
        return rope.attention_factor
    factor = rope.factor if rope.factor != 1 else ratio
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))


def rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """Turn the first features of (B, T, heads, D) by their positions; those beyond the tables' width stay."""
    dim = cos.shape[-1]
    turned, rest = (x, None) if dim == x.shape[-1] else x.split([dim, x.shape[-1] - dim], -1)
    partner = turned.unflatten(-1, (-1, 2)).flip(-1).flatten(-2) if interleaved else turned.roll(dim // 2, -1)
    turned = torch.addcmul(turned * cos, partner, sin)
    return turned if rest is None else torch.cat([turned, rest], -1)
