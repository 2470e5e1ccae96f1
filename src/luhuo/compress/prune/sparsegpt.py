"""SparseGPT (Frantar and Alistarh 2023): columns are pruned one after another, and those to come make up for it.

For a matrix W (rows, columns) with inputs X, H = 2/n Σ x xᵀ and H⁻¹ = Uᵀ U with U upper triangular: column j loses
the weights of its mask, and the error (w_j - q_j) / U_jj, times row j of U, is taken from the columns after it
(section 3, algorithm 1). The mask is chosen for a block of columns at a time, when all before them are done, by the
optimal-brain-surgeon score w² / U_jj², over all rows of the block; N:M within each group of columns (section 3.2).
With a grid what stays is rounded in the same pass (section 3.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luhuo.compress.gptq import BLOCK, inverse_factor, relative_error
from luhuo.compress.prune.target import Target
from luhuo.model.grid import Grid, dense
from luhuo.model.quantised import Rounded


@dataclass(frozen=True)
class Outcome:
    """What pruning a matrix gave."""

    weight: Tensor
    """(rows, columns) fp32, with zeros."""
    rounded: Rounded | None
    """The same on the grid, if there is one."""
    error: float
    """tr(E H Eᵀ) of the error E, over tr(W H Wᵀ): the share of the output's energy that is lost."""
    damping: float
    """Share of the mean diagonal that was added."""


def sparsegpt(
    weight: Tensor,
    hessian: Tensor,
    target: Target,
    *,
    damping: float = 0.01,
    block: int = BLOCK,
    rows: Sequence[int] = (),
    grid: Grid | None = None,
) -> Outcome:
    """Prune a matrix (rows, columns) whose inputs have the second moment `hessian` (columns, columns).

    `rows` of each of several matrices that stand in one (query, key, value): masks are chosen in each for itself.
    Weights whose input is always 0 go first. Raises `LuhuoError` if the moment is not finite or cannot be factored.
    """
    original, columns = weight.float(), weight.shape[1]
    upper, used = inverse_factor(hessian, damping)
    wide = original.masked_fill(hessian.diagonal() <= 0, 0.0)
    found = None if grid is None else grid.scales(wide, hessian.diagonal())
    integers = torch.empty_like(wide)
    pattern = target.pattern
    step = block if pattern is None else max(1, block // pattern.of) * pattern.of
    for start in range(0, columns, step):
        end = min(start + step, columns)
        score = upper.diagonal()[start:end].square()
        kept = torch.empty(len(wide), end - start, dtype=torch.bool)
        if pattern is None:
            parts = (wide[:, start:end].square() / score).split(list(rows or [len(wide)]))
            kept[:] = torch.cat([target.mask(part, "matrix") for part in parts])
        errors = torch.empty(len(wide), end - start)
        for column in range(start, end):
            place = column - start
            if pattern is not None and place % pattern.of == 0:
                ahead = slice(place, place + pattern.of)
                kept[:, ahead] = target.mask(wide[:, start:end][:, ahead].square() / score[ahead], "row")
            w = wide[:, column].clone()
            q = torch.where(kept[:, place], w, 0.0)
            if grid is not None and found is not None:
                scale, zero = (part[:, column // grid.width(columns)] for part in found)
                integers[:, column] = grid.nearest(q, scale, zero)
                q = (integers[:, column] - zero) * scale
            errors[:, place] = (w - q) / upper[column, column]
            wide[:, column] = q
            wide[:, column + 1 : end] -= errors[:, place, None] * upper[column, column + 1 : end]
        wide[:, end:] -= errors @ upper[start:end, end:]
    rounded = None if grid is None or found is None else grid.rounded(integers, *found)
    result = wide if rounded is None else dense(rounded)
    return Outcome(result, rounded, relative_error(original, result, hessian), used)
