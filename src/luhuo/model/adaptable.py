"""A matrix on which an adapter may work (`luhuo.adapter`)."""

from __future__ import annotations

import abc
from typing import Protocol

import torch
from torch import Tensor, nn


class MatrixAdapter(Protocol):
    """What stands between the input of a matrix and its output."""

    def __call__(self, matrix: Adaptable, x: Tensor) -> Tensor:
        """The output (…, rows) for x (…, columns)."""
        ...

    def merged(self, matrix: Adaptable, weight: Tensor) -> Tensor:
        """The matrix (rows, columns) that alone would do the same, from the one that is adapted."""
        ...


class Adaptable(nn.Module, abc.ABC):
    """A matrix (rows, columns) in whatever form it is kept, and the adapter on it, if there is one."""

    bias: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_module("adapter", None)

    def forward(self, x: Tensor) -> Tensor:
        adapter = self._modules["adapter"]
        return self.product(x) if adapter is None else adapter(self, x)

    @abc.abstractmethod
    def product(self, x: Tensor) -> Tensor:
        """x (…, columns) times the matrix alone, plus its bias: (…, rows)."""

    @abc.abstractmethod
    def dense(self, dtype: torch.dtype) -> Tensor:
        """The matrix alone (rows, columns) in `dtype`."""

    def effective(self, dtype: torch.dtype) -> Tensor:
        """The matrix (rows, columns) in `dtype` with what the adapter makes of it."""
        adapter = self._modules["adapter"]
        found = self.dense(dtype)
        return found if adapter is None else adapter.merged(self, found)  # type: ignore[operator]
