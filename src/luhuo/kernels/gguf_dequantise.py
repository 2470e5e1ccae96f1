"""From the block formats of GGUF to floats, as ggml defines them (llama.cpp, ggml-quants.c and ggml-common.h).

Each function takes blocks (n, bytes of a block) uint8 and gives (n, weights of a block) float32. Letters: d scale,
m minimum, q the small integers. Products and sums are rounded one after the other, as the reference does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.gguf_types import TensorType

PIECE = 1 << 18
"""Weights converted at a time: the working set stays in the processor's cache."""

NON_LINEAR = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""The sixteen levels of IQ4_NL and IQ4_XS."""

E2M1 = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)
"""The sixteen levels of MXFP4, doubled (OCP Microscaling Formats 1.0, section 5.3.3)."""


def dequantise(
    data: np.ndarray | Tensor, kind: TensorType, shape: tuple[int, ...], *, out: Tensor | None = None
) -> Tensor:
    """The tensor of `shape` whose raw bytes are `data` (uint8, one dimension), float32 on the CPU.

    With `out` (that shape, contiguous, any float dtype, on the CPU) the result is written there. Memory beyond the
    result is a piece of `PIECE` weights. Raises `LuhuoError` for a format that is not read.
    """
    if kind not in FORMATS:
        raise LuhuoError(
            tr("This format of GGUF tensors is not read.", "不读取这种 GGUF 张量格式。"),
            expected=", ".join(known.name for known in FORMATS),
            found=kind.name,
            fix=tr("Get a file in one of these formats, Q8_0 for one.", "请换用这些格式之一的文件，例如 Q8_0。"),
        )
    if out is None:
        out = torch.empty(shape, dtype=torch.float32)
    raw = data if isinstance(data, Tensor) else torch.from_numpy(data)
    flat, blocks = out.view(-1), raw.view(-1, kind.bytes)
    convert, step = FORMATS[kind], max(1, PIECE // kind.weights)
    for start in range(0, blocks.shape[0], step):
        piece = convert(blocks[start : start + step])
        flat[start * kind.weights : (start + step) * kind.weights] = piece.view(-1)
    return out


def _half(blocks: Tensor, at: int) -> Tensor:
    """The half-precision number at byte `at` of each block: (n, 1) float32."""
    return blocks[:, at : at + 2].view(torch.float16).float()


def _nibbles(packed: Tensor, group: int) -> Tensor:
    """(n, bytes) to (n, 2·bytes): per group of `group` bytes first all low halves, then all high ones."""
    packed = packed.reshape(packed.shape[0], -1, 1, group)
    return torch.cat((packed & 15, packed >> 4), 2).flatten(1)


def _planes(packed: Tensor, group: int, bits: int, count: int) -> Tensor:
    """(n, bytes) to (n, count·bytes): per group of `group` bytes all lowest `bits` bits, then the next ones, …"""
    packed = packed.reshape(packed.shape[0], -1, 1, group)
    shifts = torch.arange(0, bits * count, bits, dtype=torch.uint8).view(1, 1, count, 1)
    return ((packed >> shifts) & ((1 << bits) - 1)).flatten(1)


def _f32(blocks: Tensor) -> Tensor:
    return blocks.view(torch.float32)


def _f64(blocks: Tensor) -> Tensor:
    return blocks.view(torch.float64).float()


def _f16(blocks: Tensor) -> Tensor:
    return blocks.view(torch.float16).float()


def _bf16(blocks: Tensor) -> Tensor:
    return blocks.view(torch.bfloat16).float()


def _q8_0(blocks: Tensor) -> Tensor:
    return blocks[:, 2:].view(torch.int8).float() * _half(blocks, 0)


def _q4_0(blocks: Tensor) -> Tensor:
    return (_nibbles(blocks[:, 2:], 16).float() - 8) * _half(blocks, 0)


def _q4_1(blocks: Tensor) -> Tensor:
    return _nibbles(blocks[:, 4:], 16).float() * _half(blocks, 0) + _half(blocks, 2)


def _fifth_bits(packed: Tensor) -> Tensor:
    """Four bytes a block to (n, 32) of 0 or 16, the bits in order."""
    return _planes(packed, 1, 1, 8) << 4


def _q5_0(blocks: Tensor) -> Tensor:
    q = _nibbles(blocks[:, 6:], 16) | _fifth_bits(blocks[:, 2:6])
    return (q.float() - 16) * _half(blocks, 0)


def _q5_1(blocks: Tensor) -> Tensor:
    q = _nibbles(blocks[:, 8:], 16) | _fifth_bits(blocks[:, 4:8])
    return q.float() * _half(blocks, 0) + _half(blocks, 2)


def _levels(q: Tensor, table: tuple[int, ...]) -> Tensor:
    return torch.tensor(table, dtype=torch.float32)[q.int()]


def _iq4_nl(blocks: Tensor) -> Tensor:
    return _levels(_nibbles(blocks[:, 2:], 16), NON_LINEAR) * _half(blocks, 0)


def _iq4_xs(blocks: Tensor) -> Tensor:
    """Eight groups of 32, each with a 6-bit scale: 4 bits in bytes 4 to 7, 2 bits in the 16-bit word at byte 2."""
    low = _nibbles(blocks[:, 4:8].reshape(-1, 1), 1).view(-1, 8)
    high = _planes(blocks[:, 2:4], 1, 2, 4)
    d = _half(blocks, 0) * ((low | (high << 4)).float() - 32)
    return _scaled(_levels(_nibbles(blocks[:, 8:], 16), NON_LINEAR), d)


def _mxfp4(blocks: Tensor) -> Tensor:
    """A power of two a block, stored as exponent + 127; half of it, because the levels are doubled."""
    d = torch.ldexp(torch.ones(blocks.shape[0], 1), blocks[:, :1].int() - 128)
    return _levels(_nibbles(blocks[:, 1:], 16), E2M1) * d


def _scaled(q: Tensor, d: Tensor, m: Tensor | None = None) -> Tensor:
    """q·d - m with one d and m for each of the equal groups of a block: q (n, 256), d and m (n, groups)."""
    grouped = q.view(q.shape[0], d.shape[1], -1)
    scaled = grouped * d[:, :, None]
    return (scaled if m is None else scaled - m[:, :, None]).flatten(1)


def _q2_k(blocks: Tensor) -> Tensor:
    scales, q = blocks[:, :16], _planes(blocks[:, 16:80], 32, 2, 4)
    d, m = _half(blocks, 80) * (scales & 15).float(), _half(blocks, 82) * (scales >> 4).float()
    return _scaled(q.float(), d, m)


def _q3_k(blocks: Tensor) -> Tensor:
    """The third bit lies in a mask of its own (set: nothing is taken off); scales have 4 bits here and 2 there."""
    high, low = _planes(blocks[:, :32], 32, 1, 8), _planes(blocks[:, 32:96], 32, 2, 4)
    scales = _nibbles(blocks[:, 96:104], 8) | (_planes(blocks[:, 104:108], 4, 2, 4) << 4)
    d = _half(blocks, 108) * (scales.float() - 32)
    return _scaled((low | (high << 2)).float() - 4, d)


def _scales_and_minima(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Twelve bytes to eight 6-bit scales and eight 6-bit minima: bytes 0-3 and 4-7 hold the first four of each in
    their low bits and, in their top bits, the top bits of the other four, whose low bits fill bytes 8-11."""
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    d = torch.cat((first & 63, (third & 15) | ((first >> 2) & 48)), 1)
    m = torch.cat((second & 63, (third >> 4) | ((second >> 2) & 48)), 1)
    return d.float(), m.float()


def _q4_k(blocks: Tensor) -> Tensor:
    d, m = _scales_and_minima(blocks[:, 4:16])
    return _scaled(_nibbles(blocks[:, 16:], 32).float(), _half(blocks, 0) * d, _half(blocks, 2) * m)


def _q5_k(blocks: Tensor) -> Tensor:
    d, m = _scales_and_minima(blocks[:, 4:16])
    q = _nibbles(blocks[:, 48:], 32) | (_planes(blocks[:, 16:48], 32, 1, 8) << 4)
    return _scaled(q.float(), _half(blocks, 0) * d, _half(blocks, 2) * m)


def _q6_k(blocks: Tensor) -> Tensor:
    q = _nibbles(blocks[:, :128], 64) | (_planes(blocks[:, 128:192], 32, 2, 4) << 4)
    d = _half(blocks, 208) * blocks[:, 192:208].view(torch.int8).float()
    return _scaled(q.float() - 32, d)


FORMATS: dict[TensorType, Callable[[Tensor], Tensor]] = {
    TensorType.F32: _f32,
    TensorType.F16: _f16,
    TensorType.BF16: _bf16,
    TensorType.F64: _f64,
    TensorType.Q8_0: _q8_0,
    TensorType.Q4_0: _q4_0,
    TensorType.Q4_1: _q4_1,
    TensorType.Q5_0: _q5_0,
    TensorType.Q5_1: _q5_1,
    TensorType.Q2_K: _q2_k,
    TensorType.Q3_K: _q3_k,
    TensorType.Q4_K: _q4_k,
    TensorType.Q5_K: _q5_k,
    TensorType.Q6_K: _q6_k,
    TensorType.IQ4_NL: _iq4_nl,
    TensorType.IQ4_XS: _iq4_xs,
    TensorType.MXFP4: _mxfp4,
}
"""What can be read."""

ROUNDED = {TensorType.Q8_0, TensorType.Q4_0, TensorType.Q4_1}
"""Formats whose blocks are integers with one scale, and perhaps one low, each."""


def rounded_blocks(
    data: np.ndarray | Tensor, kind: TensorType, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor | None]:
    """A matrix in one of the `ROUNDED` formats as it is stored: integers int8, fp16 scales, fp16 lows or None.

    Integers are (rows, columns); those of Q4_1 are 0 … 15, those of Q4_0 -8 … 7. Scales and lows are (rows, blocks).
    """
    raw = data if isinstance(data, Tensor) else torch.from_numpy(data)
    blocks, rows = raw.view(-1, kind.bytes), shape[0]
    scale = blocks[:, :2].view(torch.float16).reshape(rows, -1)
    if kind == TensorType.Q8_0:
        return blocks[:, 2:].view(torch.int8).reshape(shape), scale, None
    if kind == TensorType.Q4_0:
        return (_nibbles(blocks[:, 2:], 16).to(torch.int8) - 8).view(shape), scale, None
    low = blocks[:, 2:4].view(torch.float16).reshape(rows, -1)
    return _nibbles(blocks[:, 4:], 16).to(torch.int8).view(shape), scale, low
