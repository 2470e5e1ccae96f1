"""Linear layers that keep two of four values, and decoders whose pruned matrices become such."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from luhuo.kernels.low_bit import Matrix
from luhuo.kernels.sparse import Sparse, dense, describe, is_sparse, pack, product
from luhuo.model.kept_linear import KeptLinear
from luhuo.model.layers import Linear

SPARSE = "sparse"
"""The name given as a dtype."""


class SparseLinear(KeptLinear):
    """A `Linear` with a 2:4 matrix in bf16."""

    packed: Tensor

    def __init__(self, matrix: Sparse, bias: Tensor | None = None) -> None:
        super().__init__()
        self.rows, self.columns = matrix.rows, matrix.columns
        self.hold(packed=matrix.weight, bias=bias)

    @property
    def matrix(self) -> Sparse:
        """The matrix as the kernels have it."""
        return Sparse(self.rows, self.columns, self.packed)

    def describe(self) -> Matrix:
        return describe(self.matrix, self.bias)

    def dense(self, dtype: torch.dtype) -> Tensor:
        return dense(self.matrix, dtype)

    def multiply(self, x: Tensor) -> Tensor:
        return product(x, self.matrix, self.bias)


def keep_sparse(model: nn.Module) -> int:
    """Put a `SparseLinear` in the place of every linear layer of a model's blocks whose matrix is 2:4; how many."""
    found = 0
    for name, module in list(model.named_modules()):
        if type(module) is Linear and name.startswith("blocks.") and is_sparse(module.weight):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, SparseLinear(pack(module.weight.detach()), module.bias))
            found += 1
    return found
