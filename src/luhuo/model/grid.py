"""The grid a matrix is rounded to: integers of so many bits, and a scale (and zero) for each group of columns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.kernels.packed import Width
from luhuo.model.quantised import Rounded

SHARES = tuple(1 - 0.025 * step for step in range(25))
"""Shares of a group's range that are tried as that of the integers."""
CACHED = 1 << 20
"""Numbers of a matrix that are searched at once."""


@dataclass(frozen=True)
class Grid:
    """weight = scale · (q - zero) with q of 0 … 2^bits - 1."""

    bits: Width
    group: int | None = 128
    """Columns under one scale; None: whole rows."""
    symmetric: bool = True
    """Whether zero is in the middle, 2^(bits - 1); otherwise it is a whole number that fits the group."""
    search: bool = True
    """Whether the range is the one with the least squared error; otherwise smallest to largest."""
    scale_dtype: torch.dtype = torch.bfloat16

    @property
    def top(self) -> int:
        """The largest integer."""
        return 2**self.bits - 1

    def width(self, columns: int) -> int:
        """Columns of a group in a matrix with so many. Raises `LuhuoError` if groups do not divide it."""
        if self.group is None:
            return columns
        if columns % self.group:
            divisors = [size for size in (256, 128, 64, 32, 16, 8) if columns % size == 0]
            raise LuhuoError(
                tr("Groups do not divide the width of a matrix.", "分组不能整除矩阵的列数。"),
                expected=tr(f"a divisor of {columns}", f"{columns} 的约数"),
                found=self.group,
                fix=f"group={divisors[0]}" if divisors else "group=null",
            )
        return self.group

    def scales(self, weight: Tensor, importance: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scales and zeros (rows, groups) fp32 of a matrix (rows, columns); scales are numbers of `scale_dtype`.

        `importance` (columns,) weighs the squared errors of the search.
        """
        group = self.width(weight.shape[1])
        cost = None if importance is None else importance.float().view(-1, group)
        # The search goes over the same numbers some hundred times: so few rows at once that they stay in a cache.
        rows = max(1, CACHED // weight.shape[1])
        found = [self._searched(part.float().unflatten(1, (-1, group)), cost) for part in weight.split(rows)]
        return torch.cat([scale for scale, _ in found]), torch.cat([zero for _, zero in found])

    def stands_on(self, weight: Tensor) -> Tensor | None:
        """Scales (rows, groups) of the symmetric grid that a rounded matrix lies on; None for a matrix on none.

        A group's largest magnitude is a whole multiple of its scale; the coarsest scale that fits is taken.
        """
        wide = weight.float().unflatten(1, (-1, self.width(weight.shape[1])))
        # Most matrices were never rounded, which one row tells.
        return None if self._multiples(wide[:1]) is None else self._multiples(wide)

    def _multiples(self, wide: Tensor) -> Tensor | None:
        largest = wide.abs().amax(-1)
        scale, found = torch.ones_like(largest), largest == 0
        for multiple in range(1, 2 ** (self.bits - 1) + 1):
            other = torch.where(largest == 0, 1.0, (largest / multiple).to(self.scale_dtype).float())
            zero = torch.full_like(other, 2.0 ** (self.bits - 1))
            better = ~found & (self._error(wide, other, zero, None) == 0)
            scale, found = torch.where(better, other, scale), found | better
        return scale if bool(found.all()) else None

    def _searched(self, wide: Tensor, cost: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scales and zeros (rows, groups) of (rows, groups, group)."""
        low = wide.amin(-1).clamp(max=0)
        high = wide.amax(-1).clamp(min=0)
        scale, zero = self._of_range(low, high)
        if not self.search or self.bits == 8:
            return scale, zero
        error = self._error(wide, scale, zero, cost)
        for share in SHARES[1:]:
            other_scale, other_zero = self._of_range(low * share, high * share)
            other = self._error(wide, other_scale, other_zero, cost)
            better = other < error
            scale, zero = torch.where(better, other_scale, scale), torch.where(better, other_zero, zero)
            error = torch.minimum(other, error)
        return scale, zero

    def _of_range(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        scale = torch.maximum(-low, high) * 2 / self.top if self.symmetric else (high - low) / self.top
        scale = scale.to(self.scale_dtype).float()
        scale = torch.where(scale > 0, scale, 1.0)
        if self.symmetric:
            return scale, torch.full_like(scale, 2.0 ** (self.bits - 1))
        return scale, (-low / scale).round().clamp(0, self.top)

    def _error(self, wide: Tensor, scale: Tensor, zero: Tensor, cost: Tensor | None) -> Tensor:
        q = wide.div(scale[..., None]).round_().add_(zero[..., None]).clamp_(0, self.top)
        error = q.sub_(zero[..., None]).mul_(scale[..., None]).sub_(wide).square_()
        return (error if cost is None else error.mul_(cost)).sum(-1)

    def nearest(self, weight: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        """Integers like `weight` (…, columns) for scales and zeros of the same shape, or one that spreads to it."""
        return (weight / scale).round_().add_(zero).clamp_(0, self.top)

    def round(self, weight: Tensor, scale: Tensor, zero: Tensor) -> Rounded:
        """A matrix (rows, columns) at the nearest points of the grid with these scales and zeros (rows, groups)."""
        group = self.width(weight.shape[1])
        q = self.nearest(weight.float().unflatten(1, (-1, group)), scale[..., None], zero[..., None]).flatten(1)
        return self.rounded(q, scale, zero)

    def rounded(self, q: Tensor, scale: Tensor, zero: Tensor, order: Tensor | None = None) -> Rounded:
        """Integers (rows, columns) of 0 … 2^bits - 1 as a model keeps them; `order` as `Packed` has it."""
        columns = q.shape[1]
        group = -(-columns // 8) * 8 if self.group is None else self.group
        middle = 2 ** (self.bits - 1)
        shift = middle if self.symmetric or self.bits == 8 else 0
        low = None if self.symmetric else (shift - zero) * scale
        return Rounded((q - shift).to(torch.int8), scale.to(self.scale_dtype), low, self.bits, group, order)


def dense(rounded: Rounded) -> Tensor:
    """The numbers (rows, columns) fp32 that a rounded matrix stands for, columns in the order of the activations."""
    rows, columns = rounded.q.shape
    wide = F.pad(rounded.q.float(), (0, -columns % rounded.group)).view(rows, -1, rounded.group)
    wide = wide * rounded.scale.float()[..., None]
    if rounded.low is not None:
        wide = wide + rounded.low.float()[..., None]
    flat = wide.flatten(1)[:, :columns]
    if rounded.order is None:
        return flat
    result = torch.empty_like(flat)
    result[:, rounded.order.long()] = flat
    return result
