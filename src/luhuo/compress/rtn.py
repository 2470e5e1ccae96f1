"""Round to nearest: every weight to the nearest point of its group's grid; no data are needed."""

from __future__ import annotations

from torch import Tensor

from luhuo.model.grid import Grid
from luhuo.model.quantised import Rounded


def rtn(weight: Tensor, grid: Grid) -> Rounded:
    """A matrix (rows, columns) rounded to the nearest."""
    return grid.round(weight, *grid.scales(weight))
