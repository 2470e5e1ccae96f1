"""Matrices of weights in 8 and 4 bits: rounding, and products of the compiled kernels or of plain PyTorch."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.kernels import torch_int4
from luhuo.kernels.crossover import most_rows
from luhuo.kernels.native import library
from luhuo.kernels.packed import PIECE, UNIT, Bits, Packed, integers, shifts

FORMS = {torch.float32: 0, torch.bfloat16: 1}
NUMBERS = {torch.float32: 1, torch.bfloat16: 2, torch.float16: 3}
SHRUNK = tuple(1 - 0.025 * step for step in range(11))
"""Shares of a group's range that are tried as that of the integers: cutting off the largest can cost less."""
REFITS = 2
"""Times that a 4-bit scale is fitted anew to the integers it gave."""


class Matrix(ctypes.Structure):
    """`Matrix` of native/products.h."""

    _fields_ = (
        ("form", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("group", ctypes.c_int64),
        ("weight", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("scale_number", ctypes.c_int64),
        ("low", ctypes.c_void_p),
        ("low_number", ctypes.c_int64),
        ("order", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("bias_number", ctypes.c_int64),
        ("sums", ctypes.c_void_p),
        ("input_scale", ctypes.c_void_p),
        ("threshold", ctypes.c_double),
    )


def quantise(weight: Tensor, bits: Bits, group: int) -> tuple[Tensor, Tensor]:
    """Round to the nearest: q (rows, columns) int8 and bf16 scales (rows, groups) of a matrix (rows, columns).

    Integers are -8 … 7 or -127 … 127. A 4-bit scale has the sign that puts the group's largest number on the side with
    eight steps, and is the one with the least squared error of those in `SHRUNK` and of what fits their integers best;
    an error counts by the square of the weight, because large weights carry more (bench/rounding.py).
    Columns must be whole groups, or are filled up with zeros for the scales' sake.
    """
    rows, columns = weight.shape
    wide = F.pad(weight.float(), (0, -columns % group)).view(rows, -1, group)
    largest = wide.abs().amax(-1, keepdim=True)
    if bits == 8:
        best = _above(largest / 127)
        q = (wide / best).round_().clamp_(-127, 127)
    else:
        best = _best_of_four_bits(wide, largest)
        q = (wide / best).round_().clamp_(-8, 7)
    return q.to(torch.int8).view(rows, -1)[:, :columns], best[..., 0].bfloat16()


def _best_of_four_bits(wide: Tensor, largest: Tensor) -> Tensor:
    """Scales (rows, groups, 1) of numbers (rows, groups, group) whose largest magnitudes are `largest`."""
    weight = wide.square()
    sign = torch.where(wide.amax(-1, keepdim=True) == largest, -1.0, 1.0)
    best = _above(largest / 8) * sign
    error = _error(wide, best)
    for share in SHRUNK:
        scale = _above(largest * share / 8) * sign
        for _ in range(REFITS + 1):
            other = _error(wide, scale)
            best, error = torch.where(other < error, scale, best), torch.minimum(other, error)
            q = (wide / scale).round_().clamp_(-8, 7)
            above = (q * wide * weight).sum(-1, keepdim=True)
            fitted = (above / (q.square() * weight).sum(-1, keepdim=True)).bfloat16().float()
            scale = torch.where(fitted.isfinite() & (fitted != 0), fitted, scale)
    return best


def _above(wanted: Tensor) -> Tensor:
    """The next bf16 number from `wanted` on upwards, so that rounding the scale cuts nothing off; 1 for 0."""
    bits = wanted.contiguous().view(torch.int32)
    up = ((bits + 0xFFFF) >> 16 << 16).view(torch.float32)
    return torch.where(up > 0, up, 1.0)


def _error(wide: Tensor, scale: Tensor) -> Tensor:
    rounded = (wide / scale).round_().clamp_(-8, 7).mul_(scale)
    return rounded.sub_(wide).square_().mul_(wide.square()).sum(-1, keepdim=True)


def dense(packed: Packed, dtype: torch.dtype) -> Tensor:
    """The matrix (rows, columns) in `dtype`, its columns in the order of the activations."""
    if dtype == torch.bfloat16 and on_native(packed.weight):
        result = torch.empty(packed.rows, packed.columns, dtype=dtype)
        call("unpack_matrix", describe(packed), result)
        return result
    result = torch.empty(packed.rows, packed.columns, dtype=dtype, device=packed.weight.device)
    for start in range(0, packed.rows, PIECE):
        units = torch.arange(start // UNIT, -(-min(start + PIECE, packed.rows) // UNIT), device=result.device)
        result[start : start + PIECE] = _rows(packed, units)[: packed.rows - start]
    return result


def rows_at(packed: Packed, ids: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows (…, columns) of the matrix at `ids` (…) int64."""
    flat = ids.flatten()
    lanes = packed.weight[flat // UNIT, :, flat % UNIT]  # (n, lanes)
    zero = 8 if packed.bits == 4 and packed.low is None else 0
    q = ((lanes[..., None] >> shifts(packed.bits, flat.device)) & (2**packed.bits - 1)).sub_(zero).to(torch.int8)
    scale, low = (None if p is None else p[flat // UNIT, :, flat % UNIT] for p in (packed.scale, packed.low))
    return _scaled(q.flatten(1), scale, low, packed).to(dtype).view(*ids.shape, packed.columns)


def _rows(packed: Packed, units: Tensor) -> Tensor:
    """All rows of some units, fp32."""
    q = integers(packed, units)
    parts = [None if p is None else p[units].transpose(1, 2).flatten(0, 1) for p in (packed.scale, packed.low)]
    return _scaled(q, parts[0], parts[1], packed)


def _scaled(q: Tensor, scale: Tensor | None, low: Tensor | None, packed: Packed) -> Tensor:
    assert scale is not None
    columns, group = packed.columns, packed.group
    q = q[:, :columns].contiguous().view(torch.float8_e4m3fn) if packed.floats else q[:, :columns]
    grouped = F.pad(q.float(), (0, -columns % group)).view(len(q), -1, group)
    wide = grouped * scale.float()[..., None]
    wide = (wide if low is None else wide + low.float()[..., None]).flatten(1)[:, :columns]
    if packed.order is None:
        return wide
    result = torch.empty_like(wide)
    result[:, packed.order.long()] = wide
    return result


def describe(packed: Packed, bias: Tensor | None = None) -> Matrix:
    """The kernels' view of a packed matrix, which must outlive it."""
    low, order = packed.low, packed.order
    return Matrix(
        form=6 if packed.floats else 2 if packed.bits == 8 else 3,
        rows=packed.rows,
        columns=packed.columns,
        group=packed.group,
        weight=packed.weight.data_ptr(),
        scale=packed.scale.data_ptr(),
        scale_number=NUMBERS[packed.scale.dtype],
        low=None if low is None else low.data_ptr(),
        low_number=0 if low is None else NUMBERS[low.dtype],
        order=None if order is None else order.data_ptr(),
        **bias_of(bias),
    )


def describe_dense(weight: Tensor, bias: Tensor | None = None) -> Matrix:
    """The kernels' view of a matrix (rows, columns) in fp32 or bf16, contiguous, which must outlive it."""
    assert weight.is_contiguous()
    return Matrix(
        form=FORMS[weight.dtype],
        rows=weight.shape[0],
        columns=weight.shape[1],
        group=0,
        weight=weight.data_ptr(),
        **bias_of(bias),
    )


def bias_of(bias: Tensor | None) -> dict[str, int]:
    """The fields of a `Matrix` that tell of its bias."""
    return {} if bias is None else {"bias": bias.data_ptr(), "bias_number": NUMBERS[bias.dtype]}


def product(x: Tensor, packed: Packed, bias: Tensor | None = None) -> Tensor:
    """x (…, columns) times the matrix, plus the bias: (…, rows) in x's dtype.

    Few rows of x take the compiled kernel, which rounds them to bf16, or without it and in bf16 PyTorch's routine for
    4 bits; many rows, and what neither knows, a dense matrix.
    """
    rows = x.numel() // packed.columns
    form = "fp8" if packed.floats else "int8" if packed.bits == 8 else "int4"
    if on_native(x) and rows <= most_rows(form):
        y = torch.empty(rows, packed.rows)
        call("matrix_product", describe(packed, bias), x.reshape(rows, -1).float().contiguous(), y, rows)
        return y.view(*x.shape[:-1], -1).to(x.dtype)
    if torch_int4.fits(x, packed):
        y = torch_int4.product(x.reshape(rows, -1), packed)
        y = y if bias is None else y + bias.to(x.dtype)
        return y.view(*x.shape[:-1], -1)
    return F.linear(x, dense(packed, x.dtype), None if bias is None else bias.to(x.dtype))


def on_native(x: Tensor) -> bool:
    """Whether compiled kernels can take activations like x."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and library() is not None


def call(name: str, matrix: Matrix, *arguments: object) -> None:
    """Call a compiled function with a matrix, tensors and numbers."""
    found = library()
    assert found is not None
    pointers = (a.data_ptr() if isinstance(a, Tensor) else a for a in arguments)
    getattr(found, name)(ctypes.addressof(matrix), *pointers)
