"""Linear layers whose weights and activations are both in 8 bits."""

from __future__ import annotations

import torch
from torch import Tensor

from luhuo.kernels.eight_bit import EightBit, dense, describe, product
from luhuo.kernels.low_bit import Matrix
from luhuo.model.kept_linear import KeptLinear


class EightBitLinear(KeptLinear):
    """A `Linear` with an int8 matrix that rounds its activations to 8 bits, token by token or by a fixed scale."""

    weight: Tensor
    scale: Tensor
    sums: Tensor
    input_scale: Tensor | None

    def __init__(self, matrix: EightBit, bias: Tensor | None = None) -> None:
        super().__init__()
        self.rows, self.columns = matrix.weight.shape
        self.threshold = matrix.threshold
        self.hold(weight=matrix.weight, scale=matrix.scale, sums=matrix.sums)
        self.hold(input_scale=matrix.input_scale, bias=bias)

    @property
    def matrix(self) -> EightBit:
        """The matrix as the kernels have it."""
        return EightBit(self.weight, self.scale, self.sums, self.input_scale, self.threshold)

    def describe(self) -> Matrix:
        return describe(self.matrix, self.bias)

    def dense(self, dtype: torch.dtype) -> Tensor:
        return dense(self.matrix, dtype)

    def multiply(self, x: Tensor) -> Tensor:
        return product(x, self.matrix, self.bias)
