"""Rotary positions: their frequencies, stretched for long contexts or not, and tables of one pass; sinusoids."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from luhuo.model.config import RopeConfig


def tables(
    rope: RopeConfig, dim: int, positions: Tensor, lengths: Tensor | int, max_positions: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines (…, T, 1, dim) for positions (…, T), or (…, T, 2) with two axes.

    Neighbouring features (2i, 2i + 1) are a pair if `rope.interleaved`, otherwise (i, i + dim / 2). The sine of a
    pair's first feature carries the minus sign of the rotation. `lengths`, one or (…, T) or (…, 1), is the length of
    the document each position lies in. With two axes the first half of the pairs turns by the first position.
    """
    inverse, scale = frequencies(rope, dim // rope.axes, lengths, max_positions)
    angles = positions[..., None].float() * inverse.to(positions.device)  # (…, T, dim / 2)
    if rope.axes == 2:
        angles = angles.flatten(-2)
    cos, sin = angles.cos() * scale, angles.sin() * scale
    if rope.interleaved:
        cos, sin = torch.stack([cos, cos], -1).flatten(-2), torch.stack([-sin, sin], -1).flatten(-2)
    else:
        cos, sin = torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)
    return cos.unsqueeze(-2).to(dtype), sin.unsqueeze(-2).to(dtype)


def frequencies(rope: RopeConfig, dim: int, lengths: Tensor | int, max_positions: int) -> tuple[Tensor, float]:
    """Angle per position of each pair (dim / 2,) fp32, and the factor on cosines and sines.

    Where they depend on the length of the document, and `lengths` is a tensor (…), they are (…, dim / 2).
    linear: Chen et al. 2023; dynamic: NTK-aware with the base growing with the context; yarn: Peng et al. 2023;
    longrope: Ding et al. 2024; llama3: the frequency bands of Llama 3.1; doubling: Qwen 1's, dynamic in whole steps.
    What is in a cache keeps the angles it was turned by while those of `dynamic` go on changing, as in the reference;
    longrope's change once, and then the cache is filled anew (`reread`).
    """
    exponents = torch.arange(0, dim, 2, dtype=torch.float32) / dim
    plain = rope.theta**-exponents
    if rope.kind == "linear":
        return plain / rope.factor, 1.0
    longest = torch.as_tensor(lengths)[..., None]  # of the document, (…, 1)
    exponents, plain = exponents.to(longest.device), plain.to(longest.device)
    if rope.kind == "dynamic":
        longer = rope.factor * (longest / max_positions).clamp(min=1) - (rope.factor - 1)
        return (rope.theta * longer ** (dim / (dim - 2))) ** -exponents, 1.0
    original = rope.original_positions or max_positions
    if rope.kind == "doubling":
        longer = 2.0 ** (regime(rope, longest, max_positions) + 1) - 1
        return (rope.theta * longer ** (dim / (dim - 2))) ** -exponents, 1.0
    if rope.kind == "llama3":
        return _llama3(plain, rope, original), 1.0
    if rope.kind == "yarn":
        return _yarn(plain, rope, dim, original), _yarn_scale(rope)
    if rope.kind == "longrope":
        short, long = torch.tensor([rope.short_factors, rope.long_factors], device=plain.device)
        factors = torch.where(longest > original, long, short)
        return plain / factors, _longrope_scale(rope, max_positions / original, original)
    return plain, 1.0


def regime(rope: RopeConfig, lengths: Tensor, max_positions: int) -> Tensor:
    """A number for each length (…): where it differs, so do the frequencies of a kind that is `by_border`."""
    times = lengths / (rope.original_positions or max_positions)
    return times.log2().ceil().clamp(min=0) if rope.kind == "doubling" else (times > 1).float()


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


def sinusoids(positions: Tensor, dim: int) -> Tensor:
    """Vectors (…, dim) fp32 that are added at positions (…): sines, then cosines (Vaswani et al. 2017, section 3.5).

    The frequencies go from 1 to 1/10000 inclusive, as in tensor2tensor.
    """
    steps = torch.arange(dim // 2, dtype=torch.float32, device=positions.device) / (dim // 2 - 1)
    angles = positions[..., None].float() * 10_000.0**-steps
    return torch.cat([angles.sin(), angles.cos()], -1)
