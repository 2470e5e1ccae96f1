"""Matrix products in 8-bit floats (Micikevicius et al. 2022): E4M3 for activations and weights, E5M2 for gradients.

Every operand is scaled as a whole by its own largest number, found anew each time ("dynamic, tensor-wise"), so that
there is no history to keep in a checkpoint. Sums are made in fp32 by the hardware. Rounding counts as the identity for
gradients. Weights stay fp32 where they are kept, and the result has the activations' format.

From compute capability 8.9 (Ada, Hopper) on the products are the hardware's. Elsewhere the same numbers are rounded in
the same way and multiplied as fp32: the emulation shows what the format does to a model, it saves no time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

FORWARD, BACKWARD = torch.float8_e4m3fn, torch.float8_e5m2
MULTIPLE = 16
"""The hardware multiplies matrices whose sizes are multiples of this."""
SMALLEST = 1e-12
"""Largest number of a tensor of zeros, as far as its scale is concerned."""


def in_hardware(device: torch.device) -> bool:
    """Whether this device multiplies 8-bit floats."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)


def fits(x: Tensor, weight: Tensor) -> bool:
    """Whether x (…, columns) times a weight (rows, columns) can be done; its gradients are products over x's rows.

    A piece of a distributed tensor is multiplied the plain way.
    """
    rows = x.numel() // x.shape[-1]
    return (
        type(weight) in (Tensor, nn.Parameter)
        and rows > 0
        and not any(size % MULTIPLE for size in (rows, *weight.shape))
    )


def quantise(x: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """(q, s) with x ≈ q · s: q of format `kind`, s fp32, so that the largest number is at the format's end."""
    end = torch.finfo(kind).max
    scale = x.detach().abs().amax().float().clamp(min=SMALLEST) / end
    return (x.float() / scale).clamp(-end, end).to(kind), scale


def multiply(a: Tensor, a_scale: Tensor, b: Tensor, b_scale: Tensor, dtype: torch.dtype) -> Tensor:
    """a (n, k) · bᵀ, with b (m, k), both in 8 bits, with their scales: (n, m) of format `dtype`."""
    if in_hardware(a.device):
        # Hopper wants the first operand's rows and the second one's columns in one piece.
        return torch._scaled_mm(  # pyright: ignore[reportPrivateImportUsage]
            a.contiguous(), b.contiguous().t(), scale_a=a_scale, scale_b=b_scale, out_dtype=dtype, use_fast_accum=False
        )
    return (torch.mm(a.float(), b.float().t()) * (a_scale * b_scale)).to(dtype)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        rows, x_scale = quantise(x.reshape(-1, x.shape[-1]), FORWARD)
        matrix, weight_scale = quantise(weight, FORWARD)
        ctx.save_for_backward(rows, x_scale, weight, weight_scale)
        ctx.shape, ctx.dtype = x.shape, x.dtype
        return multiply(rows, x_scale, matrix, weight_scale, x.dtype).view(*x.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        rows, x_scale, weight, weight_scale = ctx.saved_tensors
        slope, scale = quantise(gradients[0].reshape(-1, len(weight)), BACKWARD)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            # The 8-bit weight is made again: keeping that of every layer would cost a byte a parameter.
            matrix, _ = quantise(weight, FORWARD)
            of_x = multiply(slope, scale, matrix.t(), weight_scale, ctx.dtype).view(ctx.shape)
        if ctx.needs_input_grad[1]:
            of_weight = multiply(slope.t(), scale, rows.t(), x_scale, ctx.dtype).to(weight.dtype)
        return of_x, of_weight


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x (…, columns) · weightᵀ (columns, rows) in 8 bits: (…, rows) in x's format. Sizes must `fit`."""
    return _Linear.apply(x, weight)  # type: ignore[return-value]
