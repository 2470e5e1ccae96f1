"""AWQ (Lin et al. 2023): columns that meet large inputs are scaled up before rounding, and their inputs down.

The error of a matrix W with inputs of second moment H is tr(E H Eᵀ) with E = Q(W · diag(s)) · diag(s)⁻¹ - W: the
paper's equation 4 over all tokens seen. The scales are s = (mean |x|)^α / (mean share of its group's largest |w|)^β,
each with 20 values of α and with β = 0 (section 3.2) as well as β = 1 - α (as its authors' program has it). Then the
range of each group of weights is cut as far as that lowers the error its columns make.
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
    grid: Grid,
    shared: Callable[[Tensor], Tensor] = _same,
) -> Choice:
    """Scales for the input of matrices (rows, columns) that share it: those with the least error of all outputs.

    `moment` (columns, columns) and `magnitude` (columns,) are the second moment and the mean magnitude of that input.
    `shared` makes scales equal that must be. Ranges are not searched here: cutting them comes afterwards.
    """
    grid = replace(grid, search=False)
    whole = sum(energy(weight.float(), moment) for weight in weights)
    plain = sum(rounding_error(weight, moment, grid) for weight in weights)
    best = Choice(torch.ones_like(magnitude), plain, plain, 0.0, False)
    of_inputs = magnitude.float().clamp(min=SMALLEST)
    of_weights = mean_share(weights, grid.width(len(magnitude)))
    for by_weights in (False, True):
        for step in range(STEPS):
            exponent = step / STEPS
            if not step and not by_weights:
                continue  # no scales at all
            scale = of_inputs**exponent
            if by_weights:
                scale = scale / (of_weights ** (1 - exponent) + SMALLEST)
            scale = shared(centred(scale))
            error = sum(rounding_error(weight, moment, grid, scale) for weight in weights)
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
    """Scales and zeros (rows, groups) of ranges cut so that each group's own columns make the least error.

    That is the clipping of the authors' program; inputs of different groups count as unrelated, as there.
    """
    plain = replace(grid, search=False)
    group = plain.width(weight.shape[1])
    wide = weight.float().unflatten(1, (-1, group))
    blocks = torch.stack([moment[at : at + group, at : at + group] for at in range(0, weight.shape[1], group)])
    low, high = wide.amin(-1, keepdim=True), wide.amax(-1, keepdim=True)
    least: Tensor | None = None
    scale = zero = torch.empty(0)
    for step in range(CUTS):
        share = 1 - step / (2 * CUTS)
        found = plain.scales(wide.clamp(low * share, high * share).flatten(1))
        error = dense(plain.round(weight, *found)).unflatten(1, (-1, group)) - wide
        cost = torch.einsum("rgi,gij,rgj->rg", error, blocks, error)
        if least is None:
            scale, zero, least = *found, cost
            continue
        better = cost < least
        scale, zero = torch.where(better, found[0], scale), torch.where(better, found[1], zero)
        least = torch.minimum(cost, least)
    return scale, zero
