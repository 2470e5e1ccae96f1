"""Products of few rows with matrices in 4 and 8 bits by PyTorch's own routine, for machines without a compiler.

`_weight_int4pack_mm_for_cpu` multiplies bf16 activations with weights (q - 8) · scale + zero, q in 0 … 15, a scale and
a zero for each row and each group of 32, 64, 128 or 256 columns, in bf16. Eight bits are two matrices of four: with
q + 128 = 16 · high + low the weight scale · q is (high - 8) · 16 · scale plus low · scale, both exact in bf16 if the
scale is. PyTorch's 8-bit routine has one scale a row, so it would have to run once for each group, which takes longer
than a dense bf16 product; in fp32 both routines are slower than a dense product, and are not used.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

from luhuo.kernels.packed import Packed, by_row, integers

GROUPS = (32, 64, 128, 256)
MOST_ROWS = 16
"""Rows of activations up to which this is faster than to make the matrix dense first."""


@dataclass(frozen=True)
class _Parts:
    """Matrices in PyTorch's layout whose products are added up, and the state of the tensors they were made of."""

    matrices: list[tuple[Tensor, Tensor]]
    state: tuple[int | None, ...]


_KEPT: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""By the packed weight: repacking takes as long as many products."""


def fits(x: Tensor, packed: Packed) -> bool:
    """Whether the routine can multiply x (…, columns) with this matrix, and is worth it."""
    few = x.dtype == torch.bfloat16 and x.numel() <= MOST_ROWS * packed.columns and not x.requires_grad
    whole = packed.group in GROUPS and packed.columns % packed.group == 0 and not packed.floats
    return few and whole and packed.weight.device.type == "cpu" and not torch.compiler.is_compiling()


def product(x: Tensor, packed: Packed) -> Tensor:
    """x (n, columns) bf16 times the matrix: (n, rows) bf16."""
    if packed.order is not None:
        x = x[:, packed.order.long()]
    x = x.contiguous()
    results = [
        torch.ops.aten._weight_int4pack_mm_for_cpu(x, weight, packed.group, scales)
        for weight, scales in _matrices(packed)
    ]
    return torch.stack(results).sum(0)[:, : packed.rows] if len(results) > 1 else results[0][:, : packed.rows]


def _matrices(packed: Packed) -> list[tuple[Tensor, Tensor]]:
    tensors = (packed.weight, packed.scale, packed.low)
    state = tuple(None if t is None or t.is_inference() else t._version for t in tensors)
    kept = _KEPT.get(packed.weight)
    if kept is None or kept.state != state:
        kept = _KEPT[packed.weight] = _Parts(_repacked(packed), state)
    return kept.matrices


def _repacked(packed: Packed) -> list[tuple[Tensor, Tensor]]:
    q, scale = integers(packed).int(), by_row(packed, packed.scale).float()
    low = None if packed.low is None else by_row(packed, packed.low).float()
    if packed.bits == 4:
        return [_matrix(q + 8, scale, torch.zeros_like(scale)) if low is None else _matrix(q, scale, low + 8 * scale)]
    q += 128
    high = q >> 4
    parts = [_matrix(q & 15, scale, 8 * scale if low is None else low + 8 * scale)]
    if not bool((high == 8).all()):  # 4 bits that are kept in 8 need one product
        parts.append(_matrix(high, 16 * scale, torch.zeros_like(scale)))
    return parts


def _matrix(q: Tensor, scale: Tensor, zero: Tensor) -> tuple[Tensor, Tensor]:
    """One matrix from q (rows, columns) int32 in 0 … 15 and scales and zeros (rows, groups)."""
    fill = -len(q) % 16
    scales = torch.stack([F.pad(part, (0, 0, 0, fill)).t() for part in (scale, zero)], -1)  # (groups, rows, 2)
    weight = torch.ops.aten._convert_weight_to_int4pack_for_cpu(F.pad(q, (0, 0, 0, fill)).contiguous(), 1)
    return weight, scales.bfloat16().contiguous()
