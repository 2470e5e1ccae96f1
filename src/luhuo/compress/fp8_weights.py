"""Weights in FP8: E4M3 numbers (Micikevicius et al. 2022) under a scale for each row, or for the matrix.

The steps of a float grow with its size, so no group needs a range of its own and nothing has to be calibrated.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from luhuo.model.matrices import Float8

KIND = torch.float8_e4m3fn
LARGEST = torch.finfo(KIND).max
Per = Literal["row", "matrix"]
"""What has a scale of its own."""


def fp8(weight: Tensor, per: Per = "row") -> Float8:
    """A matrix (rows, columns) in E4M3; its largest number becomes the format's largest, 448."""
    wide = weight.float()
    largest = wide.abs().amax(1, keepdim=True) if per == "row" else wide.abs().amax().view(1, 1)
    scale = torch.where(largest > 0, largest / LARGEST, 1.0)
    return Float8((wide / scale).clamp(-LARGEST, LARGEST).to(KIND), scale)


def dense(matrix: Float8) -> Tensor:
    """The numbers (rows, columns) fp32 that a matrix in FP8 stands for."""
    return matrix.values.float() * matrix.scale.float()
