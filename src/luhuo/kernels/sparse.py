"""Matrices that keep two of four values (2:4 sparsity; Mishra et al. 2021) in bf16, and products with them.

Nine bits a weight are read instead of sixteen. How they lie: native/sparse.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.kernels.crossover import most_rows
from luhuo.kernels.low_bit import Matrix, bias_of, call, on_native
from luhuo.kernels.packed import UNIT

WIDTH = 32
"""Columns that are packed together; a matrix is filled up with zeros to whole ones."""


@dataclass(frozen=True)
class Sparse:
    """A packed matrix (rows, columns), columns a multiple of 4."""

    rows: int
    columns: int
    weight: Tensor
    """(units, padded columns / 32, 9, 16) int32."""


def is_sparse(weight: Tensor) -> bool:
    """Whether of each four columns of a matrix (rows, columns) at least two are zero. Most are found out at once."""
    rows, columns = weight.shape
    if columns % 4:
        return False
    for start, end in ((0, UNIT), (UNIT, rows)):
        if bool(((weight[start:end] != 0).view(-1, columns // 4, 4).sum(-1) > 2).any()):
            return False
    return True


def pack(weight: Tensor) -> Sparse:
    """Pack a matrix (rows, columns) that is sparse in this way; values are rounded to bf16."""
    rows, columns = weight.shape
    whole = F.pad(weight.bfloat16(), (0, -columns % WIDTH, 0, -rows % UNIT))
    fours = whole.view(len(whole), -1, 4)
    # The two places of each four: those of values first, zeros after them, each in ascending order.
    places = (fours == 0).sort(dim=-1, stable=True).indices[..., :2].sort(-1).values
    values = fours.gather(-1, places).contiguous().view(torch.int16).int() & 0xFFFF  # (rows, fours, 2)
    pairs = values[..., 0] | values[..., 1] << 16
    lanes = (
        places.int().view(len(whole), -1, 8, 2) << 2 * torch.arange(8, dtype=torch.int32, device=whole.device)[:, None]
    )
    halves = lanes.sum(2, dtype=torch.int32)
    both = torch.cat([(halves[..., 0] | halves[..., 1] << 16)[..., None], pairs.view(len(whole), -1, 8)], -1)
    by_unit = both.view(len(whole) // UNIT, UNIT, -1, 9).permute(0, 2, 3, 1)
    return Sparse(rows, columns, by_unit.contiguous())


def dense(sparse: Sparse, dtype: torch.dtype) -> Tensor:
    """The matrix (rows, columns) in `dtype`."""
    if dtype == torch.bfloat16 and on_native(sparse.weight):
        result = torch.empty(sparse.rows, sparse.columns, dtype=dtype)
        call("unpack_sparse", describe(sparse), result)
        return result
    lanes = sparse.weight.permute(0, 3, 1, 2).flatten(0, 1)  # (rows, pieces, 9)
    shifts = 2 * torch.arange(8, dtype=torch.int32, device=lanes.device)
    places = torch.stack([(lanes[..., :1] >> shifts + up) & 3 for up in (0, 16)], -1)  # (rows, pieces, 8, 2)
    values = torch.stack([lanes[..., 1:] << 16, lanes[..., 1:] & -0x10000], -1).contiguous().view(torch.float32)
    whole = values.new_zeros(*values.shape[:-1], 4).scatter_(-1, places.long(), values)
    return whole.flatten(1)[: sparse.rows, : sparse.columns].to(dtype)


def describe(sparse: Sparse, bias: Tensor | None = None) -> Matrix:
    """The kernels' view of a matrix, which must outlive it."""
    return Matrix(
        form=5,
        rows=sparse.rows,
        columns=sparse.columns,
        group=WIDTH,
        weight=sparse.weight.data_ptr(),
        **bias_of(bias),
    )


def product(x: Tensor, sparse: Sparse, bias: Tensor | None = None) -> Tensor:
    """x (…, columns) times the matrix, plus the bias: (…, rows) in x's dtype. Few rows take the compiled kernel."""
    rows = x.numel() // sparse.columns
    if on_native(x) and rows <= most_rows("sparse"):
        y = torch.empty(rows, sparse.rows)
        call("matrix_product", describe(sparse, bias), x.reshape(rows, -1).float().contiguous(), y, rows)
        return y.view(*x.shape[:-1], -1).to(x.dtype)
    return F.linear(x, dense(sparse, x.dtype), None if bias is None else bias.to(x.dtype))
