"""Small floats with a scale for each block, as published checkpoints hold them: MXFP4 and FP8 in tiles."""

from __future__ import annotations

import torch
from torch import Tensor

FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
"""The sixteen values of E2M1 (OCP Microscaling Formats 1.0, section 5.3.3)."""
EXPONENT_BIAS = 127
"""Of E8M0, the format of MXFP4's scales (section 5.4.1)."""


def dequantise_mxfp4(blocks: Tensor, scales: Tensor) -> Tensor:
    """Blocks (…, n, 16) uint8, two values a byte and the lower half first, scales (…, n) uint8: (…, 32 · n) bf16.

    Nothing is lost: every value, times a power of two, is a bf16. The pieces held at a time are slices along the
    first dimension.
    """
    table = torch.tensor(FP4, dtype=torch.bfloat16)
    result = torch.empty(*blocks.shape[:-2], blocks.shape[-2], 32, dtype=torch.bfloat16)
    for piece, packed, scale in zip(result, blocks, scales, strict=True):
        exponent = (scale.int() - EXPONENT_BIAS).unsqueeze(-1)
        piece[..., 0::2] = torch.ldexp(table[(packed & 15).long()].float(), exponent)
        piece[..., 1::2] = torch.ldexp(table[(packed >> 4).long()].float(), exponent)
    return result.flatten(-2)


def dequantise_fp8(weight: Tensor, scales: Tensor, tile: tuple[int, int]) -> Tensor:
    """Weight (rows, columns) float8 times the scale of its tile; scales (rows / tile, columns / tile): float32."""
    rows = scales.float().repeat_interleave(tile[0], 0)[: weight.shape[0]]
    return weight.float().mul_(rows.repeat_interleave(tile[1], 1)[:, : weight.shape[1]])
