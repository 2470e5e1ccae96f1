"""AWQ on a block: scales for every input that something before it can be divided by, then ranges cut and rounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from luhuo.compress.awq import cut_ranges, search
from luhuo.compress.folding import fold, folds
from luhuo.compress.gptq import relative_error
from luhuo.compress.inputs import Magnitudes, SecondMoment
from luhuo.compress.walk import Step
from luhuo.model.grid import Grid, dense
from luhuo.model.matrices import Kept
from luhuo.model.quantised import Rounded

Round = Callable[[Tensor, Tensor, Grid], Rounded]
"""A matrix (rows, columns) and the second moment of its inputs to the matrix on the grid."""


def awq_block(step: Step, grids: Mapping[str, Grid | None], round_one: Round) -> list[dict[str, Any]]:
    """Round all matrices of a block; what is told of each, `scaled`: α, or why there are no scales.

    `grids`, by the matrices' names in the block; a matrix without one takes the scales, but is not rounded.

    All scales are found on the block as it was, as in the authors' program, and folded afterwards.
    """
    moments, means = _inputs(step)
    vectors = {name: p.detach().clone() for name, p in step.block.named_parameters() if p.dim() == 1}
    scaled: dict[str, str] = {}
    chosen = []
    for place in folds(step.block):  # pyright: ignore[reportArgumentType]
        first = place.matrices[0]
        rounded = [(step.matrices[name].weight.detach(), grid) for name in place.matrices if (grid := grids[name])]
        if not rounded:
            continue
        weights, of_weights = [weight for weight, _ in rounded], [grid for _, grid in rounded]
        choice = search(weights, moments[first], means[first], of_weights, place.shared)
        chosen.append((place, choice))
        exponent = f"{choice.exponent:.2f}{' / w' if choice.by_weights else ''}"
        scaled |= dict.fromkeys(place.matrices, exponent if choice.error < choice.plain else "no gain")
    for place, choice in chosen:
        if choice.error < choice.plain:
            taken = fold(step.block, place, choice.scale)  # pyright: ignore[reportArgumentType]
            for name in place.matrices:
                moments[name] = moments[name] / taken / taken[:, None]
    step.keep(*(name for name, was in vectors.items() if not torch.equal(was, step.block.get_parameter(name))))
    rows = []
    for name, module in step.matrices.items():
        weight, grid = module.weight.detach().clone(), grids[name]
        if grid is None:
            step.put(name, Kept(weight))
            continue
        rounded = round_one(weight, moments[name], grid)
        row = {"name": f"{step.name}.{name}", "shape": list(weight.shape), "bits": grid.bits, "group": grid.group}
        row |= {"scaled": scaled.get(name, "nothing before it to fold into")}
        rows.append(row | {"error": relative_error(weight, dense(rounded), moments[name])})
        step.put(name, Kept(rounded))
    return rows


def round_cut(weight: Tensor, moment: Tensor, grid: Grid) -> Rounded:
    """A matrix (rows, columns) to the nearest, with ranges cut to where they make the least error of the outputs."""
    return grid.round(weight, *(cut_ranges(weight, moment, grid) if grid.search else grid.scales(weight)))


def _inputs(step: Step) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Second moments and mean magnitudes of the matrices' inputs."""
    columns = {name: module.weight.shape[1] for name, module in step.matrices.items()}
    moments = {name: SecondMoment(count) for name, count in columns.items()}
    magnitudes = {name: Magnitudes(count) for name, count in columns.items()}
    step.collect({name: [moments[name], magnitudes[name]] for name in columns})
    return {n: one.moment for n, one in moments.items()}, {n: one.mean for n, one in magnitudes.items()}
