"""Formulas of papers, one head and one token at a time where that is plainest; slow and without options."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def heads_of(x: Tensor, heads: int) -> Tensor:
    """(batch, time, heads · size) as (batch, heads, time, size)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def mixed(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float | None = None) -> Tensor:
    """Softmax attention over (batch, heads, time, size) with `bias` on the scores: (batch, time, heads · size)."""
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    return (torch.softmax(scores + bias, -1) @ value).transpose(1, 2).flatten(2)


def causal(time: int) -> Tensor:
    """Minus infinity on what lies in the future (time, time)."""
    return torch.full((time, time), -torch.inf).triu(1)


def alibi(heads: int, time: int, steepest: float = 8.0) -> Tensor:
    """Slope times distance, causal (heads, time, time).

    Press et al. 2022: with n heads, n a power of two, the slopes are 2^(-steepest · i / n), i = 1 … n. Otherwise they
    are those of the power below, then every other one, from the first, of the power above.
    """

    def powers(n: int) -> list[float]:
        return [2 ** (-steepest * i / n) for i in range(1, n + 1)]

    below = 2 ** math.floor(math.log2(heads))
    slopes = torch.tensor((powers(below) + powers(2 * below)[::2])[:heads])
    place = torch.arange(time)
    return slopes[:, None, None] * (place[None, :] - place[:, None]) + causal(time)


def rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm."""
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight


def layer_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """LayerNorm without bias."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * weight


def rotated(x: Tensor, theta: float) -> Tensor:
    """Rotary positions over (batch, heads, time, size).

    Features i and i + size / 2 turn by place · theta^(-2i / size).
    """
    size, time = x.shape[-1], x.shape[-2]
    angles = torch.arange(time)[:, None] * theta ** (-torch.arange(0, size, 2) / size)
    first, second = x.chunk(2, -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
