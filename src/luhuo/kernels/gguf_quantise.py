"""From floats to the block formats of GGUF: those of 32 numbers with ggml's reference rounding (llama.cpp,
ggml-quants.c), those of 256 by a search of our own (`gguf_quantise_k.py`).

In blocks of 32 the scale is rounded to half precision when it is stored, but the integers are found with the unrounded
one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.gguf_types import TensorType
from luhuo.kernels.gguf_quantise_k import KINDS_K, SUPERBLOCK, quantise_k, to_half

PIECE = 1 << 20
"""Weights converted at a time."""


PIECE_K = 1 << 18
"""The same for blocks of 256, whose search goes over a piece many times."""


def quantise(tensor: Tensor, kind: TensorType, name: str = "", importance: Tensor | None = None) -> Iterator[Tensor]:
    """The bytes of a tensor in this format: uint8 pieces, in order, of about `PIECE` weights each.

    `importance` (columns,), or (experts, columns) for a tensor (experts, rows, columns), are mean squares of the
    activations; they weigh errors in blocks of 256 and are no matter to others. `name` is for messages. Raises
    `LuhuoError` for a format that is not written, and for numbers that are not finite or too large for the format.
    """
    if kind not in FORMATS and kind not in KINDS_K:
        raise LuhuoError(
            tr("This format of GGUF tensors is not written.", "不写这种 GGUF 张量格式。"),
            expected=", ".join(known.name for known in (*FORMATS, *KINDS_K)),
            found=kind.name,
        )
    flat, step = tensor.detach().reshape(-1), (PIECE_K if kind in KINDS_K else PIECE) // kind.weights * kind.weights
    for start in range(0, flat.numel(), step):
        piece = flat[start : start + step].to("cpu", torch.float32)
        if not torch.isfinite(piece).all():
            problem = tr("A tensor to be written contains NaN or infinity.", "要写出的张量含有 NaN 或无穷大。")
            raise LuhuoError(problem, where=name or None)
        blocks = piece.view(-1, kind.weights)
        if kind in KINDS_K:
            weights = None if importance is None else _of_blocks(importance, tensor.shape, start, len(blocks))
            yield quantise_k(blocks, kind, weights, name).view(-1)
        else:
            yield FORMATS[kind](blocks, name).view(torch.uint8).view(-1)


def _of_blocks(importance: Tensor, shape: torch.Size, start: int, count: int) -> Tensor:
    """The importance (count, 256) of the superblocks of a tensor of this shape from number `start` of it on."""
    by_expert = importance.float().reshape(-1, shape[-1] // SUPERBLOCK, SUPERBLOCK)
    blocks = torch.arange(start // SUPERBLOCK, start // SUPERBLOCK + count)
    in_row = blocks % by_expert.shape[1]
    each = shape.numel() // SUPERBLOCK // len(by_expert)
    return by_expert[blocks // each, in_row]


def of_integers(q: Tensor, scale: Tensor, low: Tensor | None, kind: TensorType) -> Iterator[Tensor]:
    """The bytes of a matrix that is rounded already, the inverse of `gguf_dequantise.rounded_blocks`.

    q (rows, columns) int8 with scales and lows (rows, columns / 32): of Q8_0 without lows, of Q4_0 from -8 on without,
    of Q4_1 from 0 on with them.
    """
    step = max(1, PIECE // q.shape[1])
    for start in range(0, len(q), step):
        blocks = q[start : start + step].reshape(-1, kind.weights)
        parts = [part[start : start + step].reshape(-1, 1) for part in (scale, low) if part is not None]
        if kind == TensorType.Q8_0:
            whole = blocks.view(torch.uint8)
        else:
            whole = _pack((blocks + (8 if low is None else 0)).to(torch.uint8))
        yield torch.cat([*(_bytes(part.float(), "") for part in parts), whole], 1).view(-1)


def _f32(blocks: Tensor, _: str) -> Tensor:
    return blocks


def _f16(blocks: Tensor, name: str) -> Tensor:
    return to_half(blocks, name)


def _bf16(blocks: Tensor, _: str) -> Tensor:
    return blocks.bfloat16()


def _q8_0(blocks: Tensor, name: str) -> Tensor:
    d = blocks.abs().amax(1, keepdim=True) / 127
    x = blocks * _inverse(d)
    size = x.abs()
    whole = size.floor()
    # Halves go away from zero; floor(size + 0.5) would take 0.49999997 for one, because that sum is rounded.
    q = torch.copysign(whole + (2 * (size - whole)).floor(), x)
    return torch.cat((_bytes(d, name), q.to(torch.int8).view(torch.uint8)), 1)


def _q4_0(blocks: Tensor, name: str) -> Tensor:
    """The number of largest size, with its sign, becomes -8."""
    largest = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    d = largest / -8
    q = (blocks * _inverse(d) + 8.5).clamp(0, 15).to(torch.uint8)
    return torch.cat((_bytes(d, name), _pack(q)), 1)


def _q4_1(blocks: Tensor, name: str) -> Tensor:
    low, high = blocks.amin(1, keepdim=True), blocks.amax(1, keepdim=True)
    d = (high - low) / 15
    q = ((blocks - low) * _inverse(d) + 0.5).clamp(0, 15).to(torch.uint8)
    return torch.cat((_bytes(d, name), _bytes(low, name), _pack(q)), 1)


def _q5_0(blocks: Tensor, name: str) -> Tensor:
    """The number of largest size, with its sign, becomes -16."""
    largest = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    d = largest / -16
    q = (blocks * _inverse(d) + 16.5).clamp(0, 31).to(torch.uint8)
    return torch.cat((_bytes(d, name), _fifth_bits(q), _pack(q & 15)), 1)


def _q5_1(blocks: Tensor, name: str) -> Tensor:
    low, high = blocks.amin(1, keepdim=True), blocks.amax(1, keepdim=True)
    d = (high - low) / 31
    q = ((blocks - low) * _inverse(d) + 0.5).clamp(0, 31).to(torch.uint8)
    return torch.cat((_bytes(d, name), _bytes(low, name), _fifth_bits(q), _pack(q & 15)), 1)


def _fifth_bits(q: Tensor) -> Tensor:
    """(n, 32) of 5 bits to (n, 4): the highest bit of each, in order."""
    bits = (q >> 4).view(len(q), 4, 8)
    return (bits << torch.arange(8, dtype=torch.uint8)).sum(2, dtype=torch.uint8)


def _inverse(d: Tensor) -> Tensor:
    """1/d, and 0 where that is not finite: such a d is stored as 0 in half precision."""
    inverse = 1 / d
    return torch.where(torch.isfinite(inverse), inverse, 0)


def _pack(q: Tensor) -> Tensor:
    """(n, 32) to (n, 16): the first half of a block in the low bits, the second in the high ones."""
    return q[:, :16] | (q[:, 16:] << 4)


def _bytes(x: Tensor, name: str) -> Tensor:
    """(n, 1) float32 to its half-precision bytes (n, 2)."""
    return to_half(x, name).view(torch.uint8)


FORMATS: dict[TensorType, Callable[[Tensor, str], Tensor]] = {
    TensorType.F32: _f32,
    TensorType.F16: _f16,
    TensorType.BF16: _bf16,
    TensorType.Q8_0: _q8_0,
    TensorType.Q4_0: _q4_0,
    TensorType.Q4_1: _q4_1,
    TensorType.Q5_0: _q5_0,
    TensorType.Q5_1: _q5_1,
}
"""What can be written in blocks of 32, or of one."""
