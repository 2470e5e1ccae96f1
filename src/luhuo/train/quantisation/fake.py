"""Rounding that gradients go through: the numbers are those of the grid, the slopes those of what was rounded.

Shapes: a matrix is (rows, columns), its scales and zeros are (rows, groups). A rounded matrix is computed again in the
backward pass rather than kept: it costs a few passes over the weights, where keeping those of all layers costs as much
memory as the weights themselves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.kernels.eight_bit import round_rows
from luhuo.model.grid import Grid


def values(grid: Grid, weight: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """A matrix at the nearest points of its grid: (rows, columns) fp32, the very numbers that `Grid.round` stores."""
    wide = weight.float().unflatten(1, (scale.shape[1], -1))
    zero, scale = zero[..., None], scale[..., None]
    return grid.nearest(wide, scale, zero).sub_(zero).mul_(scale).flatten(1)


def straight_through(slope: Tensor, weight: Tensor, scale: Tensor, zero: Tensor) -> tuple[Tensor, None]:
    """The slope of a matrix as if it had not been rounded (Bengio et al. 2013; Jacob et al. 2018)."""
    return slope, None


def learned_step(slope: Tensor, weight: Tensor, scale: Tensor, zero: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes of a matrix, and of its scales (Esser et al. 2020, "Learned step size quantization", eq. 3 to 5).

    With v / s inside of (-Q_N, Q_P), d v̂ / d s = round(v / s) - v / s and d v̂ / d v = 1; outside, they are the limit
    and 0. The slope of a scale is multiplied by 1 / √(N · Q_P), with N the weights that share it.
    """
    group = weight.shape[1] // scale.shape[1]
    below, above = -zero[..., None], zero[..., None] - 1
    ratio = weight.float().unflatten(1, (-1, group)) / scale[..., None]
    inside = (ratio > below) & (ratio < above)
    moved = torch.where(inside, ratio.round() - ratio, ratio.clamp(below, above))
    wide = slope.unflatten(1, (-1, group))
    of_scale = (wide.float() * moved).sum(-1) / (group * above[..., 0]).sqrt()
    return (wide * inside).flatten(1), of_scale


def first_steps(weight: Tensor, group: int, bits: int) -> Tensor:
    """Scales (rows, groups) to begin with: 2 · mean |v| / √Q_P (Esser et al. 2020, section 2.1); 1 for zeros."""
    size = weight.float().abs().unflatten(1, (-1, group)).mean(-1)
    return torch.where(size > 0, 2 * size / (2 ** (bits - 1) - 1) ** 0.5, 1.0)


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor, zero: Tensor, grid: Grid) -> Tensor:
        ctx.save_for_backward(weight, scale, zero)
        return values(grid, weight, scale, zero)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        rule = learned_step if ctx.needs_input_grad[1] else straight_through
        return *rule(slopes[0], *ctx.saved_tensors), None, None


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor, zero: Tensor, grid: Grid) -> Tensor:
        ctx.save_for_backward(x, weight, scale, zero)
        ctx.grid = grid
        return F.linear(x, values(grid, weight, scale, zero).to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale, zero = ctx.saved_tensors
        rows = slopes[0].flatten(0, -2)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = torch.mm(rows, values(ctx.grid, weight, scale, zero).to(rows.dtype)).view(x.shape)
        if not (ctx.needs_input_grad[1] or ctx.needs_input_grad[2]):
            return of_x, None, None, None, None
        rule = learned_step if ctx.needs_input_grad[2] else straight_through
        return of_x, *rule(torch.mm(rows.t(), x.flatten(0, -2)), weight, scale, zero), None, None


class _Tokens(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        q, scale = round_rows(x.float())
        return (q * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        return slopes[0]


def rounded_matrix(weight: Tensor, scale: Tensor, zero: Tensor, grid: Grid) -> Tensor:
    """`values`, with slopes: those of learned steps if `scale` requires a gradient, else straight through."""
    return _Rounded.apply(weight, scale, zero, grid)  # type: ignore[return-value]


def rounded_product(x: Tensor, weight: Tensor, scale: Tensor, zero: Tensor, grid: Grid) -> Tensor:
    """x (…, columns) times the rounded matrix, in x's number format: (…, rows)."""
    return _Product.apply(x, weight, scale, zero, grid)  # type: ignore[return-value]


def rounded_tokens(x: Tensor) -> Tensor:
    """x (…, columns) with each token on a symmetric grid of 8 bits of its own; slopes go straight through."""
    return _Tokens.apply(x)  # type: ignore[return-value]
