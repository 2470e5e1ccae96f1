"""Matrices that are kept in another form than as a parameter: what all kinds of them share."""

from __future__ import annotations

import abc
from typing import Any

import torch
from torch import Tensor

from luhuo.kernels.low_bit import Matrix
from luhuo.model.adaptable import Adaptable


class _Product(torch.autograd.Function):
    """The product with a kept matrix, which is made dense again for the gradient of x instead of being kept so."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: KeptLinear) -> Tensor:
        ctx.module = module
        return module.multiply(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] @ ctx.module.dense(gradients[0].dtype), None


class KeptLinear(Adaptable):
    """A `Linear` whose matrix is held in buffers. Adapters are trained on it: rounding activations counts as the
    identity for their gradients."""

    rows: int
    columns: int

    def hold(self, **tensors: Tensor | None) -> None:
        """Register buffers."""
        for name, tensor in tensors.items():
            self.register_buffer(name, None if tensor is None else tensor.detach())

    @abc.abstractmethod
    def multiply(self, x: Tensor) -> Tensor:
        """x (…, columns) times the matrix, plus its bias: (…, rows), without gradients."""

    @abc.abstractmethod
    def describe(self) -> Matrix:
        """The compiled kernels' view of matrix and bias, which must outlive it."""

    def product(self, x: Tensor) -> Tensor:
        if x.requires_grad and torch.is_grad_enabled():
            return _Product.apply(x, self)  # type: ignore[return-value]
        return self.multiply(x)
