"""Normalisation, rotary positions and the gated activation with hand-written gradients.

In bf16 on a CPU they are compiled functions (`kernels.fused`) where there is a compiler. Otherwise they are written
with plain tensor operations: the gradients reuse what the forward pass computed and stay in the activations' dtype,
where autograd would convert to fp32 and back at every step (on a CPU in bf16 that takes three to four times as long).
Sums that could lose precision are made in fp32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.kernels import fused as compiled


def by_hand() -> bool:
    """Whether a gradient is wanted and is the one written here: torch.compile derives and fuses its own."""
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()


def normalise(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(x · r, r) with r = 1 / sqrt(mean(x²) + eps) over the last dimension, kept as a dimension of size 1."""
    wide = torch.promote_types(x.dtype, torch.float32)
    if torch.compiler.is_compiling():  # in one kernel without a norm, whose gradient at zero is none
        inner = x.to(wide)
        scale = torch.rsqrt(inner.square().mean(-1, keepdim=True) + eps)
        return (inner * scale).to(x.dtype), scale
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
    scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_().to(x.dtype)
    return x * scale, scale


def normalise_backward(gradient: Tensor, unit: Tensor, scale: Tensor) -> Tensor:
    """Gradient of `normalise`: (g - u · mean(g · u)) · r, with u the normalised x."""
    size = unit.shape[-1]
    dots = torch.mv((gradient * unit).reshape(-1, size), gradient.new_full((size,), -1 / size))
    return torch.addcmul(gradient, unit, dots.view(scale.shape)).mul_(scale)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        unit, scale = normalise(x, eps)
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, scale, weight = ctx.saved_tensors
        gradient = gradients[0]
        slope = (gradient * unit).flatten(0, -weight.dim() - 1).sum(0, dtype=torch.float32)
        return normalise_backward(gradient * weight.to(gradient.dtype), unit, scale), slope.to(weight.dtype), None


class _CompiledRMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        result, scale = compiled.rms_norm(x, weight, eps)
        ctx.save_for_backward(x, weight, scale)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scale = ctx.saved_tensors
        slope, of_weight = compiled.rms_norm_backward(gradients[0], x, weight, scale)
        return slope, of_weight.to(weight.dtype), None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) · weight over the last dimension (Zhang and Sennrich 2019).

    The weight's shape is that of x's last dimensions, one or several.
    """
    if weight.dim() == 1 and compiled.usable(x):
        return _CompiledRMSNorm.apply(x, weight, eps)  # type: ignore[return-value]
    if by_hand():
        return _RMSNorm.apply(x, weight, eps)  # type: ignore[return-value]
    return normalise(x, eps)[0] * weight.to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn (B, T, heads, D) by its positions: x · cos + (x2, x1) · (-sin, sin) (Su et al. 2021, rotating halves)."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


class _NormRotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
        unit, scale = normalise(x, eps)
        ctx.save_for_backward(unit, scale, weight, cos, sin)
        return rotate(unit * weight.to(x.dtype), cos, sin)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        unit, scale, weight, cos, sin = ctx.saved_tensors
        gradient = gradients[0]
        turned = (gradient * sin).roll(unit.shape[-1] // 2, -1)  # the halves swap back
        turned.addcmul_(gradient, cos)
        slope = (turned * unit).flatten(0, 1).sum(0, dtype=torch.float32)
        inner = normalise_backward(turned * weight.to(turned.dtype), unit, scale)
        return inner, slope.to(weight.dtype), None, None, None


def norm_rotate(x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
    """RMSNorm and rotary position of every head: x (B, T, heads, D), weight (heads, D), cos and sin (…, T, 1, D)."""
    if by_hand():
        return _NormRotate.apply(x, weight, cos, sin, eps)  # type: ignore[return-value]
    return rotate(normalise(x, eps)[0] * weight.to(x.dtype), cos, sin)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, -1)
        active = F.silu(gate)
        ctx.save_for_backward(gate_up, active)
        return active * up

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gate_up, active = ctx.saved_tensors
        gate, up = gate_up.chunk(2, -1)
        result = torch.empty_like(gate_up)
        gate_slope, up_slope = result.chunk(2, -1)
        torch.mul(gradients[0], active, out=up_slope)
        gate_slope.copy_(torch.ops.aten.silu_backward(gradients[0] * up, gate))
        return result


class _CompiledSwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        return compiled.swiglu(gate_up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return compiled.swiglu_backward(gradients[0], *ctx.saved_tensors)


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) · up for (…, 2 · inner) holding gate and up side by side (Shazeer 2020)."""
    if compiled.usable(gate_up):
        return _CompiledSwiGLU.apply(gate_up)  # type: ignore[return-value]
    if by_hand():
        return _SwiGLU.apply(gate_up)  # type: ignore[return-value]
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate) * up
