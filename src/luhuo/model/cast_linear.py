"""Products with matrices that are kept in another number format than the activations.

The copy of a matrix in the activations' format is made where it is used, and made again for the backward pass instead
of being kept: it costs 6 bytes of traffic a parameter, where keeping all copies until the backward pass costs half of
what the weights themselves take. For the same reason a wide gated feed-forward part keeps its one product only, and
computes gate, activation and their product again. Gradients are those of the plain operations, bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from luhuo.kernels import fused

WIDE = 512
"""Repeating the activation costs as much as 1 / width of the products: 2% of a layer at this width, 8% at 256."""


def casts(weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether a product with this parameter needs a copy of it that the backward pass can make again.

    Parameters that stand for something else (pieces of a distributed tensor) take the plain way; torch.compile too: it
    decides by itself what it keeps.
    """
    plain = type(weight) is nn.Parameter and not torch.compiler.is_compiling()
    return weight.dtype != dtype and plain and torch.is_grad_enabled()


class _CastLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        return _slopes(gradients[0], x, weight, ctx.needs_input_grad)


def _slopes(
    gradient: Tensor, x: Tensor, weight: Tensor, needed: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of x · weightᵀ: of x, and of the weight in the activations' format."""
    rows = gradient.flatten(0, -2)
    of_x = torch.mm(rows, weight.to(rows.dtype)).view(x.shape) if needed[0] else None
    return of_x, torch.mm(rows.t(), x.flatten(0, -2)) if needed[1] else None


def cast_linear(x: Tensor, weight: Tensor) -> Tensor:
    """x (…, columns) · weightᵀ (columns, rows), with the weight in x's number format: (…, rows)."""
    return _CastLinear.apply(x, weight)  # type: ignore[return-value]


class _GatedDown(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(both, weight)
        return F.linear(_gated(both), weight.to(both.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        both, weight = ctx.saved_tensors
        slope, weight_slope = _slopes(gradients[0], _gated(both), weight, (True, ctx.needs_input_grad[1]))
        if slope is None or not ctx.needs_input_grad[0]:
            return None, weight_slope
        return _gated_slope(slope, both), weight_slope


def _gated(both: Tensor) -> Tensor:
    """silu(gate) · up."""
    if fused.usable(both):
        return fused.swiglu(both)
    gate, up = both.chunk(2, -1)
    return F.silu(gate).mul_(up)


def _gated_slope(slope: Tensor, both: Tensor) -> Tensor:
    """Gradient of `_gated`; `slope` is used up."""
    if fused.usable(both):
        return fused.swiglu_backward(slope, both)
    gate, up = both.chunk(2, -1)
    result = torch.empty_like(both)
    gate_slope, up_slope = result.chunk(2, -1)
    torch.mul(slope, F.silu(gate), out=up_slope)
    gate_slope.copy_(torch.ops.aten.silu_backward(slope.mul_(up), gate))
    return result


def gated_down(both: Tensor, weight: Tensor) -> Tensor:
    """(silu(gate) · up) · weightᵀ for (…, 2 · inner) holding gate and up side by side (Shazeer 2020)."""
    return _GatedDown.apply(both, weight)  # type: ignore[return-value]
