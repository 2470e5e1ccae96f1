"""From floats to the block formats of GGUF, with ggml's reference rounding (llama.cpp, ggml-quants.c).

The scale is rounded to half precision when it is stored, but the integers are found with the unrounded one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.gguf_types import TensorType

PIECE = 1 << 20
"""Weights converted at a time."""


def quantise(tensor: Tensor, kind: TensorType, name: str = "") -> Iterator[Tensor]:
    """The bytes of a tensor in this format: uint8 pieces, in order, of about `PIECE` weights each.

    `name` is for messages. Raises `LuhuoError` for a format that is not written, and for numbers that are not finite
    or too large for the format.
    """
    if kind not in FORMATS:
        raise LuhuoError(
            tr("This format of GGUF tensors is not written.", "不写这种 GGUF 张量格式。"),
            expected=", ".join(known.name for known in FORMATS),
            found=kind.name,
        )
    flat, step = tensor.detach().reshape(-1), PIECE // kind.weights * kind.weights
    for start in range(0, flat.numel(), step):
        piece = flat[start : start + step].to("cpu", torch.float32)
        if not torch.isfinite(piece).all():
            problem = tr("A tensor to be written contains NaN or infinity.", "要写出的张量含有 NaN 或无穷大。")
            raise LuhuoError(problem, where=name or None)
        yield FORMATS[kind](piece.view(-1, kind.weights), name).view(torch.uint8).view(-1)


def _f32(blocks: Tensor, _: str) -> Tensor:
    return blocks


def _f16(blocks: Tensor, name: str) -> Tensor:
    return _to_half(blocks, name)


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


def _inverse(d: Tensor) -> Tensor:
    """1/d, and 0 where that is not finite: such a d is stored as 0 in half precision."""
    inverse = 1 / d
    return torch.where(torch.isfinite(inverse), inverse, 0)


def _pack(q: Tensor) -> Tensor:
    """(n, 32) to (n, 16): the first half of a block in the low bits, the second in the high ones."""
    return q[:, :16] | (q[:, 16:] << 4)


def _to_half(x: Tensor, name: str) -> Tensor:
    half = x.half()
    if not torch.isfinite(half).all():
        raise LuhuoError(
            tr("A number is too large for half precision.", "有数值超出半精度范围。"),
            expected="<= 65504",
            found=float(x.abs().max()),
            where=name or None,
            fix=tr("Export as BF16 or F32.", "请导出为 BF16 或 F32。"),
        )
    return half


def _bytes(x: Tensor, name: str) -> Tensor:
    """(n, 1) float32 to its half-precision bytes (n, 2)."""
    return _to_half(x, name).view(torch.uint8)


FORMATS: dict[TensorType, Callable[[Tensor, str], Tensor]] = {
    TensorType.F32: _f32,
    TensorType.F16: _f16,
    TensorType.BF16: _bf16,
    TensorType.Q8_0: _q8_0,
    TensorType.Q4_0: _q4_0,
    TensorType.Q4_1: _q4_1,
}
"""What can be written."""
