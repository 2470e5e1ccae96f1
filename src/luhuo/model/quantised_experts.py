"""Experts whose matrices are kept in 8 or 4 bits, in the place of a parameter of three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from luhuo.kernels.low_bit import dense, product
from luhuo.kernels.packed import Bits, Packed, Width
from luhuo.model.moe import ExpertMatrices, ranges


class _Product(torch.autograd.Function):
    """Products with the experts' matrices, which are made dense again for the gradient of x, one at a time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, held: QuantisedMatrices, counts: list[int]) -> Tensor:
        ctx.held, ctx.counts = held, counts
        return held.multiply(x, counts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        held: QuantisedMatrices = ctx.held
        gradient = gradients[0]
        slope = gradient.new_empty(len(gradient), held.columns)
        for expert, a, b in ranges(ctx.counts):
            slope[a:b] = gradient[a:b] @ dense(held.matrix(expert), gradient.dtype)
        return slope, None, None


class QuantisedMatrices(ExpertMatrices):
    """One packed matrix for each expert. Experts begin at whole units of rows, whatever number of rows they have."""

    packed: Tensor
    """(experts, units, padded columns · bits / 32, 16) int32."""
    scale: Tensor
    """(experts, units, groups, 16)."""
    low: Tensor | None

    def __init__(self, matrices: Sequence[Packed], width: Width | None = None) -> None:
        """`matrices` are alike, and their columns stand in order; `width`: what they were rounded to."""
        super().__init__()
        first = matrices[0]
        assert first.order is None
        self.bits: Bits = first.bits
        self.width: Width = width or first.bits
        self.rows, self.columns, self.group, self.floats = first.rows, first.columns, first.group, first.floats
        lows = [one.low for one in matrices if one.low is not None]
        self.register_buffer("packed", torch.stack([one.weight for one in matrices]))
        self.register_buffer("scale", torch.stack([one.scale for one in matrices]))
        self.register_buffer("low", torch.stack(lows) if lows else None)

    def __len__(self) -> int:
        return len(self.packed)

    def matrix(self, expert: int) -> Packed:
        """The matrix of one expert."""
        low = None if self.low is None else self.low[expert]
        tensors = self.packed[expert], self.scale[expert], low, None
        return Packed(self.bits, self.rows, self.columns, self.group, *tensors, self.floats)

    def grouped(self, x: Tensor, counts: Tensor) -> Tensor:
        several = counts.tolist()
        if x.requires_grad and torch.is_grad_enabled():
            return _Product.apply(x, self, several)  # type: ignore[return-value]
        return self.multiply(x, several)

    def multiply(self, x: Tensor, counts: list[int]) -> Tensor:
        """The same without gradients."""
        y = x.new_empty(len(x), self.rows)
        for expert, a, b in ranges(counts):
            y[a:b] = product(x[a:b], self.matrix(expert))
        return y

    def dense(self, dtype: torch.dtype) -> Tensor:
        """All matrices (experts, rows, columns)."""
        return torch.stack([dense(self.matrix(expert), dtype) for expert in range(len(self))])
