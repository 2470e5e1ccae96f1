"""Wanda (Sun et al. 2023): a weight counts by its magnitude times the norm of its input, compared within its row.

The score of weight (i, j) is |W_ij| · ‖X_j‖₂ (section 3, equation 1): a large input makes a small weight matter. What
stays keeps its value, so a layer costs two passes over the data and one sort.
"""

from __future__ import annotations

from torch import Tensor

from luhuo.compress.prune.target import Target


def scores(weight: Tensor, squares: Tensor) -> Tensor:
    """|W| · ‖X‖₂ (rows, columns) of a matrix whose inputs have the sums of squares `squares` (columns,)."""
    return weight.float().abs() * squares.double().sqrt().float()


def wanda(weight: Tensor, squares: Tensor, target: Target) -> Tensor:
    """The mask of what stays of a matrix (rows, columns)."""
    return target.mask(scores(weight, squares), "row")
