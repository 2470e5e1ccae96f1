"""Products of weights in 8 bits with activations that are rounded to 8 bits too (W8A8; Dettmers et al. 2022).

Both are rounded symmetrically: a weight by the scale of its row, an activation by that of its token, found anew each
time (largest magnitude over 127), or by one fixed scale of all. Sums of the integers are exact; each is scaled once.
So a token's result depends on nothing but the token, and is the same in whatever way the sums are made: by PyTorch's
routine, by the compiled loop (native/eight_bit.cpp), or in pieces of floats.

With a threshold a token's activations above it are left out of this and multiplied as they are (LLM.int8, the same
paper). The paper leaves out a column for all tokens of a batch if one of them is above; here each token decides for
itself, because its result must not depend on its company.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from luhuo.kernels.low_bit import Matrix, bias_of

LEVELS = 127
SMALLEST = 1e-30
"""Largest magnitude of a row of zeros, as far as its scale is concerned."""
EXACT_COLUMNS = 1024
"""So many products of two integers of 8 bits have sums that fp32 holds exactly: 128² · 1024 = 2²⁴."""


@dataclass(frozen=True)
class EightBit:
    """A matrix (rows, columns) for activations in 8 bits."""

    weight: Tensor
    """(rows, columns) int8, contiguous."""
    scale: Tensor
    """(rows,) fp32."""
    sums: Tensor
    """(rows,) int32: of each row's integers."""
    input_scale: Tensor | None = None
    """(1,) fp32: the scale of all activations; None: each token has its own."""
    threshold: float | None = None
    """Activations with a magnitude above it are not rounded."""


def eight_bit(
    q: Tensor, scale: Tensor, *, input_scale: Tensor | None = None, threshold: float | None = None
) -> EightBit:
    """The matrix of integers q (rows, columns) with scales (rows,) or (rows, 1); the rest as `EightBit` has it."""
    return EightBit(
        q.to(torch.int8).contiguous(),
        scale.reshape(-1).float().contiguous(),
        q.sum(1, dtype=torch.int32),
        None if input_scale is None else input_scale.reshape(1).float(),
        threshold,
    )


def round_rows(x: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Integers (n, columns) int8 and scales (n, 1) or (1,) fp32 of activations x (n, columns) fp32."""
    if scale is None:
        scale = x.abs().amax(-1, keepdim=True).clamp_(min=SMALLEST) / LEVELS
    return (x / scale).round_().clamp_(-LEVELS - 1, LEVELS).to(torch.int8), scale


def product(x: Tensor, matrix: EightBit, bias: Tensor | None = None) -> Tensor:
    """x (…, columns) times the matrix, plus the bias: (…, rows) in x's dtype."""
    rows, columns = matrix.weight.shape
    flat, apart = x.reshape(-1, columns).float(), None
    if matrix.threshold is not None:
        large = flat.abs() > matrix.threshold
        places = large.any(0).nonzero()[:, 0]
        apart = torch.where(large, flat, 0)[:, places].double() @ matrix.weight[:, places].double().t()
        flat = flat.masked_fill(large, 0)
    q, scale = round_rows(flat, matrix.input_scale)
    y = integer_product(q, matrix.weight).float().mul_(scale).mul_(matrix.scale)
    if apart is not None:
        y += apart.float().mul_(matrix.scale)
    if bias is not None:
        y += bias.float()
    return y.to(x.dtype).view(*x.shape[:-1], rows)


def integer_product(a: Tensor, b: Tensor) -> Tensor:
    """a (n, k) · bᵀ of two int8 matrices, b (m, k): exact sums (n, m) int32."""
    if a.device.type == "cpu" and _routine_is_exact():
        return torch._int_mm(a, b.t())  # pyright: ignore[reportPrivateImportUsage]
    total = torch.zeros(len(a), len(b), dtype=torch.int32, device=a.device)
    for start in range(0, a.shape[1], EXACT_COLUMNS):
        piece = slice(start, start + EXACT_COLUMNS)
        total += (a[:, piece].float() @ b[:, piece].float().t()).int()
    return total


@functools.cache
def _routine_is_exact() -> bool:
    """Whether PyTorch's routine sums as integers here: on processors without a fitting instruction, sums of two
    products may be cut off at 16 bits on the way."""
    largest = torch.full((32, 256), LEVELS, dtype=torch.int8)
    try:
        found = torch._int_mm(largest, -largest.t())  # pyright: ignore[reportPrivateImportUsage]
    except RuntimeError:
        return False
    return bool((found == -256 * LEVELS**2).all())


def dense(matrix: EightBit, dtype: torch.dtype) -> Tensor:
    """The matrix (rows, columns) in `dtype`."""
    return (matrix.weight.float() * matrix.scale[:, None]).to(dtype)


def describe(matrix: EightBit, bias: Tensor | None = None) -> Matrix:
    """The kernels' view of a matrix, which must outlive it."""
    return Matrix(
        form=4,
        rows=matrix.weight.shape[0],
        columns=matrix.weight.shape[1],
        weight=matrix.weight.data_ptr(),
        scale=matrix.scale.data_ptr(),
        scale_number=1,
        sums=matrix.sums.data_ptr(),
        input_scale=None if matrix.input_scale is None else matrix.input_scale.data_ptr(),
        threshold=math.inf if matrix.threshold is None else matrix.threshold,
        **bias_of(bias),
    )
