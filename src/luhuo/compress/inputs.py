"""What is kept of the inputs of a matrix over the calibration data."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Collector(Protocol):
    """Is shown the inputs of one matrix, some at a time."""

    def add(self, x: Tensor) -> None:
        """Inputs (tokens, columns) fp32."""
        ...


class SecondMoment:
    """2/n Σ x xᵀ over n inputs: the Hessian of half the squared error of a row of outputs (GPTQ, section 3.1)."""

    def __init__(self, columns: int) -> None:
        self._sum = torch.zeros(columns, columns)
        self.count = 0

    def add(self, x: Tensor) -> None:
        """Inputs (tokens, columns) fp32."""
        self._sum.addmm_(x.T, x)
        self.count += len(x)

    @property
    def moment(self) -> Tensor:
        """(columns, columns) fp32."""
        return self._sum * (2 / max(1, self.count))


class Magnitudes:
    """Mean and largest magnitude, and the sum of squares, of each column."""

    def __init__(self, columns: int) -> None:
        self._sum = torch.zeros(columns, dtype=torch.float64)
        self.largest = torch.zeros(columns)
        """(columns,)."""
        self.squares = torch.zeros(columns, dtype=torch.float64)
        """(columns,) Σ x²."""
        self.count = 0

    def add(self, x: Tensor) -> None:
        """Inputs (tokens, columns) fp32."""
        size = x.abs()
        self._sum += size.sum(0, dtype=torch.float64)
        self.squares += x.square().sum(0, dtype=torch.float64)
        self.largest = torch.maximum(self.largest, size.amax(0))
        self.count += len(x)

    @property
    def mean(self) -> Tensor:
        """(columns,) fp32: mean |x|."""
        return (self._sum / max(1, self.count)).float()


class Sample:
    """So many inputs drawn evenly from all, by reservoir sampling (algorithm R, Vitter 1985)."""

    def __init__(self, columns: int, most: int, seed: int) -> None:
        self._kept = torch.empty(most, columns)
        self._generator = torch.Generator().manual_seed(seed)
        self.count = 0

    def add(self, x: Tensor) -> None:
        """Inputs (tokens, columns) fp32."""
        most = len(self._kept)
        free = max(0, min(len(x), most - self.count))
        self._kept[self.count : self.count + free] = x[:free]
        numbers = torch.arange(self.count + free, self.count + len(x))
        places = (torch.rand(len(numbers), generator=self._generator, dtype=torch.float64) * (numbers + 1)).long()
        taken = places < most
        for row, place in zip(x[free:][taken], places[taken].tolist(), strict=True):
            self._kept[place] = row
        self.count += len(x)

    @property
    def rows(self) -> Tensor:
        """(at most `most`, columns) fp32."""
        return self._kept[: min(self.count, len(self._kept))]
