"""How matrices in 8 and 4 bits are packed.

A weight is scale · q, or scale · q + low, with a scale (and a low) for each row and each group of columns. The rows
are taken in units of sixteen: the 32-bit lane r of sixteen neighbours holds `32 / bits` columns of row r, column k of
them at bit `bits · (k // 2) + 16 · (k % 2)`, so that a pair of columns lies in the two halves of its lane (why:
native/products.cpp). Rows are filled up to whole units and columns to whole groups, with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Bits = Literal[8, 4]
"""Bits of the integers as they are packed."""
Width = Literal[8, 4, 3, 2]
"""Bits that a matrix is rounded to; 3 and 2 are packed like 4."""

UNIT = 16
PIECE = 4096
"""Rows packed or unpacked at a time where that is done by PyTorch."""


@dataclass(frozen=True)
class Packed:
    """A packed matrix (rows, columns)."""

    bits: Bits
    rows: int
    columns: int
    group: int
    weight: Tensor
    """(units, padded columns · bits / 32, 16) int32."""
    scale: Tensor
    """(units, groups, 16), bf16, fp16 or fp32."""
    low: Tensor | None = None
    """Like `scale`. Without it 4-bit integers are -8 … 7, with it 0 … 15; 8-bit ones are -128 … 127."""
    order: Tensor | None = None
    """(columns,) int32: the activation that belongs to each column, where the columns were moved."""
    floats: bool = False
    """Whether the 8 bits are no integers but floats (E4M3; Micikevicius et al. 2022). Then there are no lows."""


def pack(
    q: Tensor, scale: Tensor, low: Tensor | None = None, *, bits: Bits, group: int, order: Tensor | None = None
) -> Packed:
    """Pack integers, or floats of 8 bits, (rows, columns) with scales and lows (rows, groups); see `Packed`."""
    floats = q.dtype == torch.float8_e4m3fn
    q = q.view(torch.int8) if floats else q
    rows, columns = q.shape
    step, zero = 32 // bits, 8 if bits == 4 and low is None else 0
    places = shifts(bits, q.device)
    packed = []
    for start in range(0, rows, PIECE):
        piece = q[start : start + PIECE].int() + zero
        piece = F.pad(piece, (0, -columns % group, 0, -len(piece) % UNIT), value=zero) & (2**bits - 1)
        lanes = piece.view(len(piece) // UNIT, UNIT, -1, step).transpose(1, 2)
        packed.append((lanes << places).sum(-1, dtype=torch.int32))
    by_unit = [None if part is None else _by_unit(part) for part in (scale, low)]
    assert by_unit[0] is not None
    return Packed(bits, rows, columns, group, torch.cat(packed), by_unit[0], by_unit[1], order, floats)


def shifts(bits: int, device: torch.device) -> Tensor:
    """Where the columns of a lane stand in it."""
    places = torch.arange(32 // bits, dtype=torch.int32, device=device)
    return bits * (places // 2) + 16 * (places % 2)


def _by_unit(part: Tensor) -> Tensor:
    padded = F.pad(part, (0, 0, 0, -len(part) % UNIT))
    return padded.view(-1, UNIT, part.shape[1]).transpose(1, 2).contiguous()


def integers(packed: Packed, units: Tensor | None = None) -> Tensor:
    """The integers (rows, columns) int8 in the order of the columns; of some `units` (n,) only, all sixteen rows.

    Of floats it is their bits.
    """
    weight = packed.weight if units is None else packed.weight[units]
    zero = 8 if packed.bits == 4 and packed.low is None else 0
    places, mask = shifts(packed.bits, weight.device), 2**packed.bits - 1
    found = ((weight[..., None] >> places) & mask).sub_(zero).to(torch.int8)  # (units, lanes, 16, step)
    found = found.transpose(1, 2).reshape(len(weight) * UNIT, -1)[:, : packed.columns]
    return found[: packed.rows] if units is None else found


def by_row(packed: Packed, part: Tensor) -> Tensor:
    """Scales or lows as (rows, groups)."""
    return part.transpose(1, 2).reshape(-1, part.shape[1])[: packed.rows]
