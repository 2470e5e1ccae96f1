"""The bits of each matrix of a model under a size: gradients, a walk for the inputs, and the knapsack."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from luhuo.compress.mixed import WHOLE, allocate, matrix_bits
from luhuo.compress.sensitivity import Costs, block_costs, output_fisher
from luhuo.compress.sizes import check_memory
from luhuo.compress.walk import Walk
from luhuo.core.atomic import write_json
from luhuo.core.language import tr
from luhuo.kernels.packed import Width
from luhuo.model.grid import Grid
from luhuo.model.layers import Linear

COSTS = "costs.json"
"""What was found of all matrices, kept in case the run is cut off."""


def chosen_bits(
    walk: Walk, sequences: Tensor, scratch: Path, grid: Grid, choices: Sequence[int], limit: int, seed: int
) -> tuple[dict[str, int], float]:
    """The bits of each matrix in the blocks (16: left as it is), by its name in the model, and what they cost.

    `limit`: bits that all of them may take together, with their scales. The cost is the expected divergence from the
    original in nats a token. The model is in memory as a whole while gradients are found.
    """
    shapes = matrices_of(walk)
    costs = _costs(walk, sequences, scratch, grid, choices, seed)
    zeros = not grid.symmetric
    whole = _published(walk)
    sizes = {
        name: {
            bits: whole[name] if bits == WHOLE else matrix_bits(rows, columns, bits, grid.width(columns), zeros=zeros)
            for bits in choices
        }
        for name, (rows, columns) in shapes.items()
    }
    chosen = allocate(costs, sizes, limit)
    return chosen, sum(costs[name][bits] for name, bits in chosen.items())


def matrices_of(walk: Walk) -> dict[str, tuple[int, int]]:
    """Rows and columns of the matrices in the blocks that are rounded, by their names in the model."""
    return {
        f"blocks.{index}.{name}": (module.weight.shape[0], module.weight.shape[1])
        for index, block in enumerate(walk.model.blocks)
        for name, module in block.named_modules()
        if type(module) is Linear
    }


def experts_of(walk: Walk) -> dict[str, int]:
    """Numbers in the matrices of experts that may be rounded, by the names of the parameters."""
    return {name: p.numel() for name, p in walk.model.named_parameters() if walk.experts(name)}


def size_like(walk: Walk, grid: Grid, bits: float) -> int:
    """Bits that the matrices in the blocks take, with scales, if each has so many on average."""
    found = 0.0
    for rows, columns in matrices_of(walk).values():
        found += rows * columns * bits
        found += matrix_bits(rows, columns, grid.bits, grid.width(columns), zeros=not grid.symmetric)
        found -= rows * columns * grid.bits
    return int(found)


def size_besides(walk: Walk) -> int:
    """Bits of everything else in the model's files."""
    whole = sum(8 * walk.weights.tensor(name).nbytes for _, names in walk.links for name in names)
    return whole - sum(_published(walk).values())


def average_bits(walk: Walk, grids: Mapping[str, Grid | None]) -> float:
    """Bits of a weight in the blocks' matrices, where those without a grid have 16."""
    elements = {name: rows * columns for name, (rows, columns) in matrices_of(walk).items()} | experts_of(walk)
    found = sum(count * (grid.bits if (grid := grids[name]) else WHOLE) for name, count in elements.items())
    return found / sum(elements.values())


def _published(walk: Walk) -> dict[str, int]:
    """Bits that the matrices in the blocks take in the model's files, by their names in the model."""
    inside = matrices_of(walk)
    return {
        name: sum(8 * walk.weights.tensor(part).nbytes for part in names)
        for link, names in walk.links
        if (name := link.ours.removesuffix(".weight")) in inside and name != link.ours
    }


def _costs(
    walk: Walk, sequences: Tensor, scratch: Path, grid: Grid, choices: Sequence[int], seed: int
) -> dict[str, Costs]:
    """By matrix and bits, the expected divergence; of a matrix left as it is none."""
    file = scratch / COSTS
    if file.is_file():
        told = json.loads(file.read_text(encoding="utf-8"))
        return {name: {int(bits): cost for bits, cost in costs.items()} for name, costs in told.items()}
    parameters = sum(parameter.numel() for parameter in walk.model.parameters())
    check_memory(6 * parameters, what=tr("the gradients of mixed bits", "混合位数的梯度计算"))
    fisher = output_fisher(walk.root, sequences, seed)
    widths: list[Width] = [bits for bits in (2, 3, 4, 8) if bits in choices]
    grids = [replace(grid, bits=bits) for bits in widths]
    found: dict[str, Costs] = {}
    folder = scratch / "sensitivity"
    with Walk(walk.root, sequences, folder, through="original", title=tr("sensitivity", "敏感度")) as other:
        for step in other:
            step.notes["costs"] = block_costs(step, fisher, grids)
        for notes in other.notes():
            found |= {name: {int(bits): cost for bits, cost in of.items()} for name, of in notes["costs"].items()}
    if WHOLE in choices:
        found = {name: costs | {WHOLE: 0.0} for name, costs in found.items()}
    write_json(file, found)
    return found
