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


class MatrixRounding(Protocol):
    """What rounds a matrix, with its adapter merged, while it is trained (`luhuo.train.quantisation`)."""

    on: bool
    """Whether it does so now."""

    def __call__(self, matrix: Adaptable, x: Tensor) -> Tensor:
        """The output (…, rows) of the rounded matrix for x (…, columns)."""
        ...

    def values(self, weight: Tensor) -> Tensor:
        """A matrix (rows, columns) as it is rounded."""
        ...


class Adaptable(nn.Module, abc.ABC):
    """A matrix (rows, columns) in whatever form it is kept, and the adapter and the rounding on it, if there are."""

    bias: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_module("adapter", None)
        self.register_module("rounding", None)

    def forward(self, x: Tensor) -> Tensor:
        adapter, rounding = self._modules["adapter"], self._modules["rounding"]
        if rounding is not None and rounding.on:
            return rounding(self, x)
        return self.product(x) if adapter is None else adapter(self, x)

    @abc.abstractmethod
    def product(self, x: Tensor) -> Tensor:
        """x (…, columns) times the matrix alone, plus its bias: (…, rows)."""

    @abc.abstractmethod
    def dense(self, dtype: torch.dtype) -> Tensor:
        """The matrix alone (rows, columns) in `dtype`."""

    def effective(self, dtype: torch.dtype) -> Tensor:
        """The matrix (rows, columns) in `dtype` with what adapter and rounding make of it."""
        adapter, rounding = self._modules["adapter"], self._modules["rounding"]
        rounds = rounding is not None and rounding.on
        found = self.dense(torch.float32 if rounds else dtype)
        if adapter is not None:
            found = adapter.merged(self, found)  # type: ignore[operator]
        return rounding.values(found).to(dtype) if rounds else found  # type: ignore[operator, union-attr]
