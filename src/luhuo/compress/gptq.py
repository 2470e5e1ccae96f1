"""GPTQ (Frantar et al. 2023): columns are rounded one after another, and those to come make up for the error.

For a matrix W (rows, columns) with inputs X, H = 2/n Σ x xᵀ and H⁻¹ = Uᵀ U with U upper triangular (the paper's
Cholesky reformulation, section 3.3): when column j is rounded to q, the error (w_j - q) / U_jj, times row j of U, is
taken from the columns after it. Columns are worked off in blocks; those behind a block are corrected once a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.grid import Grid, dense
from luhuo.model.quantised import Rounded

Order = Literal["given", "static", "activation"]
"""In which order columns are rounded: as they stand; or by the size of their inputs, largest first ("act-order"), with
groups of columns that stand together (static groups), or that are rounded together (the file then says which)."""

BLOCK = 128
RAISE = 10.0
"""Factor on the damping when the second moment has no Cholesky factor."""


@dataclass(frozen=True)
class Outcome:
    """What rounding a matrix gave."""

    rounded: Rounded
    error: float
    """tr(E H Eᵀ) of the error E, over tr(W H Wᵀ): the share of the output's energy that is lost."""
    damping: float
    """Share of the mean diagonal that was added."""
    dead: int
    """Columns whose input is always 0; their weights are set to 0."""


def gptq(
    weight: Tensor,
    hessian: Tensor,
    grid: Grid,
    *,
    damping: float = 0.01,
    order: Order = "static",
    block: int = BLOCK,
) -> Outcome:
    """Round a matrix (rows, columns) whose inputs have the second moment `hessian` (columns, columns).

    `damping` is the share of the mean diagonal that is added; it is raised until there is a Cholesky factor. Raises
    `LuhuoError` if the moment is not finite or there is no factor with any damping.
    """
    original, columns = weight.float(), weight.shape[1]
    group = grid.width(columns)
    diagonal = hessian.diagonal()
    dead = diagonal <= 0
    wide = original.masked_fill(dead, 0.0)
    scale = zero = None
    if order != "activation":
        scale, zero = grid.scales(wide, diagonal)
    places = torch.arange(columns) if order == "given" else diagonal.argsort(descending=True, stable=True)
    upper, used = inverse_factor(hessian[places][:, places], damping)
    # (columns, rows): what is done column by column reads and writes neighbouring numbers.
    wide = wide[:, places].T.contiguous()
    q = torch.empty_like(wide)
    scales, zeros = [], []
    for start in range(0, columns, block):
        end = min(start + block, columns)
        errors = torch.empty(end - start, wide.shape[1])
        for column in range(start, end):
            if scale is None or zero is None:
                if column % group == 0:
                    importance = diagonal[places[column : column + group]]
                    own = Grid(grid.bits, None, grid.symmetric, grid.search, grid.scale_dtype)
                    ahead = _caught_up(wide, errors, upper, start, column, end, min(column + group, columns))
                    found = own.scales(ahead.T, importance)
                    scales.append(found[0])
                    zeros.append(found[1])
                own_scale, own_zero = scales[-1][:, 0], zeros[-1][:, 0]
            else:
                at = int(places[column]) // group
                own_scale, own_zero = scale[:, at], zero[:, at]
            w = wide[column]
            q[column] = grid.nearest(w, own_scale, own_zero)
            error = (w - (q[column] - own_zero) * own_scale) / upper[column, column]
            wide[column + 1 : end].addr_(upper[column, column + 1 : end], error, alpha=-1)
            errors[column - start] = error
        wide[end:].addmm_(upper[start:end, end:].T, errors, alpha=-1)
    q = q.T.contiguous()
    if scale is None or zero is None:
        order_of = places.to(torch.int32)
        rounded = grid.rounded(q, torch.cat(scales, 1), torch.cat(zeros, 1), order_of)
    else:
        back = torch.empty_like(q)
        back[:, places] = q
        rounded = grid.rounded(back, scale, zero)
    return Outcome(rounded, relative_error(original, dense(rounded), hessian), used, int(dead.sum()))


def _caught_up(wide: Tensor, errors: Tensor, upper: Tensor, start: int, column: int, end: int, stop: int) -> Tensor:
    """Columns `column` … `stop` as they are after the columns before them: those behind the block lack its errors."""
    ahead = wide[column:stop].clone()
    if stop > end and column > start:
        ahead[end - column :] -= upper[start:column, end:stop].T @ errors[: column - start]
    return ahead


def inverse_factor(hessian: Tensor, damping: float) -> tuple[Tensor, float]:
    """U (columns, columns) fp32 with (H + damping · mean diagonal)⁻¹ = Uᵀ U, and the damping that was needed.

    Columns without input get a diagonal of 1. Raises `LuhuoError` if H is not finite, or cannot be factored.
    """
    if not bool(hessian.isfinite().all()):
        raise LuhuoError(
            tr("The inputs of a matrix are not finite.", "矩阵的输入含非有限数。"),
            fix=tr(
                "Is the model sound in fp32? Try other calibration text.", "模型在 fp32 下是否正常？请换校准文本。"
            ),
        )
    wide = hessian.double()
    diagonal = wide.diagonal()
    mean = float(diagonal.mean())
    wide = wide + torch.diag(torch.where(diagonal <= 0, 1.0, 0.0).double())
    eye = torch.eye(len(wide), dtype=torch.float64)
    share = damping
    while share <= 1e4:
        damped = wide + share * (mean if mean > 0 else 1.0) * eye
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not int(failed):
            inverse = torch.cholesky_inverse(factor)
            upper, failed = torch.linalg.cholesky_ex(inverse, upper=True)
            if not int(failed) and bool(upper.isfinite().all()):
                return upper.float(), share
        share = max(share, 1e-4) * RAISE
    raise LuhuoError(
        tr("The second moment of a matrix' inputs cannot be factored.", "矩阵输入的二阶矩无法分解。"),
        fix=tr("Use more and more varied calibration text.", "请使用更多、更多样的校准文本。"),
    )


def relative_error(weight: Tensor, changed: Tensor, hessian: Tensor) -> float:
    """tr(E H Eᵀ) / tr(W H Wᵀ) with E = W - changed: the share of the output's energy that is lost."""
    wide, moment = weight.double(), hessian.double()
    error = wide - changed.double()
    whole = float(((wide @ moment) * wide).sum())
    return float(((error @ moment) * error).sum()) / whole if whole > 0 else 0.0
