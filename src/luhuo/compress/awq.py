"""AWQ (Lin et al. 2023): columns that meet large inputs are scaled up before rounding, and their inputs down.

The error of a matrix W with inputs of second moment H is tr(E H Eᵀ) with E = Q(W · diag(s)) · diag(s)⁻¹ - W: the
paper's equation 4 over all tokens seen. The scales are s = (mean |x|)^α / (mean share of its group's largest |w|)^β,
each with 20 values of α and with β = 0 (section 3.2) as well as β = 1 - α (as its authors' program has it). Then the
range of each group of weights is cut as far as that lowers the error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from luhuo.model.grid import Grid, dense

STEPS = 20
"""Values of α that are tried: 0, 1/20 … 19/20."""
CUTS = 10
"""Shares of a group's range that are tried: 1, 19/20 … 11/20."""
SWEEPS = 2
"""Times that every range is chosen anew."""
SMALLEST = 1e-4
"""The least mean magnitude that counts, and the least share of the weights'."""


@dataclass(frozen=True)
class Choice:
    """The scales that were found."""

    scale: Tensor
    """(columns,) fp32."""
    error: float
    """Rounding error of the outputs with them, over the outputs' energy."""
    plain: float
    """The same without scales."""
    exponent: float
    """α."""
    by_weights: bool
    """Whether β = 1 - α."""


def _same(scale: Tensor) -> Tensor:
    return scale


def search(
    weights: Sequence[Tensor],
    moment: Tensor,
    magnitude: Tensor,
    grids: Sequence[Grid],
    shared: Callable[[Tensor], Tensor] = _same,
) -> Choice:
    """Scales for the input of matrices (rows, columns) that share it: those with the least error of all outputs.

    `grids`: that of each matrix; groups are the same in all.
    `moment` (columns, columns) and `magnitude` (columns,) are the second moment and the mean magnitude of that input.
    `shared` makes scales equal that must be. Ranges are not searched here: cutting them comes afterwards.
    """
    pairs = [(weight, replace(grid, search=False)) for weight, grid in zip(weights, grids, strict=True)]
    whole = sum(energy(weight.float(), moment) for weight in weights)
    plain = sum(rounding_error(weight, moment, grid) for weight, grid in pairs)
    best = Choice(torch.ones_like(magnitude), plain, plain, 0.0, False)
    of_inputs = magnitude.float().clamp(min=SMALLEST)
    of_weights = mean_share(weights, grids[0].width(len(magnitude)))
    for by_weights in (False, True):
        for step in range(STEPS):
            exponent = step / STEPS
            if not step and not by_weights:
                continue  # no scales at all
            scale = of_inputs**exponent
            if by_weights:
                scale = scale / (of_weights ** (1 - exponent) + SMALLEST)
            scale = shared(centred(scale))
            error = sum(rounding_error(weight, moment, grid, scale) for weight, grid in pairs)
            if error < best.error:
                best = Choice(scale, error, plain, exponent, by_weights)
    share = 1 / whole if whole > 0 else 0.0
    return replace(best, error=best.error * share, plain=best.plain * share)


def centred(scale: Tensor) -> Tensor:
    """Scales divided by the root of largest times smallest, so that neither side runs away."""
    return scale.clamp(min=SMALLEST) / (scale.max() * scale.clamp(min=SMALLEST).min()).sqrt()


def mean_share(weights: Sequence[Tensor], group: int) -> Tensor:
    """(columns,): the mean over all rows of |w| over the largest |w| of its group."""
    rows = torch.cat([weight.float().abs() for weight in weights]).unflatten(1, (-1, group))
    return (rows / rows.amax(-1, keepdim=True).clamp(min=1e-12)).flatten(1).mean(0)


def energy(rows: Tensor, moment: Tensor) -> float:
    """tr(R H Rᵀ) of rows (rows, columns)."""
    return float(((rows @ moment) * rows).sum(dtype=torch.float64))


def rounding_error(weight: Tensor, moment: Tensor, grid: Grid, scale: Tensor | None = None) -> float:
    """tr(E H Eᵀ) of a matrix rounded to the nearest after its columns were scaled, and scaled back."""
    wide = weight.float() if scale is None else weight.float() * scale
    rounded = dense(grid.round(wide, *grid.scales(wide)))
    error = (rounded if scale is None else rounded / scale) - weight.float()
    return energy(error, moment)


def cut_ranges(weight: Tensor, moment: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Scales and zeros (rows, groups) of ranges cut to where the matrix' outputs have the least error.

    The authors' program cuts each group as if its inputs were unrelated to all others. That is where this begins, or
    with whole ranges in rows for which it is better; then, group after group, each range is chosen anew against the
    error that the other groups make, so that no row's error grows.
    """
    plain = replace(grid, search=False)
    group = plain.width(weight.shape[1])
    wide = weight.float()
    tried = [_share_cut(wide, plain, group, 1 - step / (2 * CUTS)) for step in range(CUTS)]
    errors = [dense(plain.round(wide, *found)) - wide for found in tried]
    best = _unrelated(errors, moment, group)
    chosen = torch.stack(errors).unflatten(2, (-1, group)).gather(0, _at(best, group))[0].flatten(1)
    worse = ((chosen @ moment) * chosen).sum(1) > ((errors[0] @ moment) * errors[0]).sum(1)
    best[worse], chosen[worse] = 0, errors[0][worse]
    for _ in range(SWEEPS):
        for at in range(best.shape[1]):
            columns = slice(at * group, (at + 1) * group)
            own = torch.stack([error[:, columns] for error in errors])  # (tried, rows, group)
            chosen[:, columns] = 0
            beside = chosen @ moment[:, columns]
            cost = ((own @ moment[columns, columns] + 2 * beside) * own).sum(-1)
            best[:, at] = cost.argmin(0)
            chosen[:, columns] = own.gather(0, best[:, at].view(1, -1, 1).expand(1, -1, group))[0]
    scale, zero = (torch.stack(part).gather(0, best[None])[0] for part in zip(*tried, strict=True))
    return scale, zero


def _share_cut(weight: Tensor, grid: Grid, group: int, share: float) -> tuple[Tensor, Tensor]:
    """Scales and zeros (rows, groups) for so large a share of every range."""
    wide = weight.unflatten(1, (-1, group))
    low, high = wide.amin(-1, keepdim=True), wide.amax(-1, keepdim=True)
    return grid.scales(wide.clamp(low * share, high * share).flatten(1))


def _unrelated(errors: Sequence[Tensor], moment: Tensor, group: int) -> Tensor:
    """(rows, groups) int64: of several errors (rows, columns), which is the least by a group's own columns."""
    starts = range(0, len(moment), group)
    blocks = torch.stack([moment[at : at + group, at : at + group] for at in starts])
    wide = [error.unflatten(1, (-1, group)) for error in errors]
    return torch.stack([torch.einsum("rgi,gij,rgj->rg", one, blocks, one) for one in wide]).argmin(0)


def _at(best: Tensor, group: int) -> Tensor:
    """Numbers (rows, groups) as an index (1, rows, groups, group)."""
    return best[None, ..., None].expand(1, -1, -1, group)
