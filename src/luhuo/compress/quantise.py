"""One run of stage `quantize`: the walk through the model, the method on each matrix, the directory and the report."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from luhuo.compress.awq_blocks import awq_block, round_cut
from luhuo.compress.calibration import drawn
from luhuo.compress.eight_bit_blocks import fp8_block, llm_int8_block, smooth_block, w8a8_block
from luhuo.compress.experts import experts_at_once, round_experts, say_that_they_stay
from luhuo.compress.gptq import gptq, relative_error
from luhuo.compress.inputs import SecondMoment
from luhuo.compress.mixed_bits import average_bits, chosen_bits, experts_of, matrices_of, size_besides, size_like
from luhuo.compress.outer import outer
from luhuo.compress.quantise_stage import EIGHT_BITS
from luhuo.compress.rtn import rtn
from luhuo.compress.sizes import check_memory, directory_bytes
from luhuo.compress.walk import Step, Walk
from luhuo.compress.write import write_model
from luhuo.core.artifact import Workspace
from luhuo.core.atomic import write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.kernels.packed import Width
from luhuo.model.grid import Grid, dense
from luhuo.model.matrices import Kept
from luhuo.model.quantised import Rounded

if TYPE_CHECKING:
    from luhuo.compress.quantise_stage import QuantizeStage

SCRATCH = ".walk"
GROUPS = (128, 64, 32, 16, 8)
"""Columns of a group where nothing else says so: the first that divides all matrices."""

Row = dict[str, Any]
"""What is told of a matrix."""


def quantise(stage: QuantizeStage, out: Workspace) -> None:
    """Write the quantised model directory and `report.json`, a row for each matrix."""
    scratch = out.path / SCRATCH
    with Walk(stage.model, drawn(stage), scratch, title=f"quantize {stage.method}") as walk:
        grid = grid_for(stage, walk)
        besides = outer(walk, stage.embedding_bits, stage.head_bits)
        check_memory(needed_bytes(walk), what=stage.method)
        grids = _grids(stage, walk, grid, scratch, out)
        for step in walk:
            rows = _block(stage, step, {name: grids[f"{step.name}.{name}"] for name in step.matrices})
            if any(grids[f"{step.name}.{name}"] for name in step.expert_matrices):
                rows += round_experts(step, grid, _of_experts(stage, grid))
            step.notes["matrices"] = rows
        write_model(walk, out.path, walk.finished() | besides)
        bits = average_bits(walk, grids)
        report = [row for notes in walk.notes() for row in notes["matrices"]]
    write_json(out.path / "report.json", report)
    shutil.rmtree(scratch)
    _tell(stage, out, report, grid, bits)


def grid_for(stage: QuantizeStage, walk: Walk) -> Grid:
    """The grid of all matrices. Raises `LuhuoError` if its groups do not divide one of them."""
    columns = {
        parameter.shape[-1]
        for name, parameter in walk.model.named_parameters()
        if name.startswith("blocks.") and (parameter.ndim == 2 or walk.experts(name))
    }
    group = None if stage.group == "row" else stage.group
    if group == "auto":
        group = next((size for size in GROUPS if all(count % size == 0 for count in columns)), None)
    if stage.method in EIGHT_BITS:
        return Grid(8, None)
    grid = Grid(stage.bits, group, stage.symmetric, stage.search)
    for count in columns:
        grid.width(count)
    return grid


def _grids(stage: QuantizeStage, walk: Walk, grid: Grid, scratch: Path, out: Workspace) -> dict[str, Grid | None]:
    """The grid of each matrix, by its name in the model; None: it stays as it is."""
    kept = dict.fromkeys(experts_of(walk), None if stage.mixed or stage.method in EIGHT_BITS else grid)
    if not any(kept.values()):
        say_that_they_stay(walk)
    if not stage.mixed:
        return {**dict.fromkeys(matrices_of(walk), grid), **kept}
    limit = size_like(walk, grid, stage.average_bits) if stage.average_bits is not None else 0
    if stage.megabytes is not None:
        limit = int(stage.megabytes * 8e6) - size_besides(walk)
    assert walk.sequences is not None
    bits, cost = chosen_bits(walk, walk.sequences, scratch, grid, stage.choices, limit, stage.seed)
    out.results["expected_kl"] = cost
    widths: dict[int, Width] = {2: 2, 3: 3, 4: 4, 8: 8}
    found = {name: replace(grid, bits=widths[one]) if one in widths else None for name, one in bits.items()}
    return {**found, **kept}


def needed_bytes(walk: Walk) -> int:
    """Memory for the largest block in fp32 twice, its second moments twice, and the batch at hand."""
    sizes = [sum(p.numel() for p in block.parameters()) for block in walk.model.blocks]
    moments = [
        sum(p.shape[1] ** 2 for name, p in block.named_parameters() if p.ndim == 2) for block in walk.model.blocks
    ]
    widths = [p.shape[2] for name, p in walk.model.named_parameters() if walk.experts(name)]
    moments += [experts_at_once(columns) * columns**2 for columns in widths]
    states = 0 if walk.sequences is None else walk.sequences.numel() * walk.config.hidden_size
    return 4 * (2 * max(sizes) + 3 * max(moments) + states)


def _block(stage: QuantizeStage, step: Step, grids: Mapping[str, Grid | None]) -> list[Row]:
    """Round the matrices of one block; `grids` by their names in it."""
    method, seed = stage.method, stage.seed
    if method == "awq":
        return awq_block(step, grids, round_cut)
    if method == "awq_gptq":
        return awq_block(step, grids, partial(_gptq_rounded, stage))
    if method == "llm_int8":
        return llm_int8_block(step, stage.threshold, seed, measured=stage.data is not None)
    if method == "fp8":
        return fp8_block(step, "row", inputs=stage.activations != "none")
    scales = "tensor" if stage.activations == "tensor" else "token"
    if method == "w8a8":
        return w8a8_block(step, scales, stage.percentile, seed, measured=stage.data is not None)
    if method == "smoothquant":
        return smooth_block(step, scales, stage.smoothing, stage.percentile, seed)
    return [
        _round(stage, step, name, grid, moment)
        for name, moment in _moments(stage, step)
        if (grid := grids[name]) is not None
    ]


def _of_experts(stage: QuantizeStage, grid: Grid) -> Callable[[Tensor, Tensor, float], Rounded] | None:
    """How the matrices of experts are rounded, given their inputs; None: to the nearest.

    With fewer inputs than columns the second moment is believed the less, so that an expert is not fitted to the few
    tokens it saw. Columns stay in their places: an order by inputs would be another one for each expert.
    """
    if stage.data is None:
        return None
    if stage.method == "rtn":
        return lambda weight, moment, short: rtn(weight, grid)
    if stage.method == "awq":
        return lambda weight, moment, short: round_cut(weight, moment, grid)
    order = "static" if stage.order == "activation" else stage.order
    return lambda weight, moment, short: gptq(weight, moment, grid, damping=stage.damping * short, order=order).rounded


def _moments(stage: QuantizeStage, step: Step) -> list[tuple[str, Tensor | None]]:
    """The block's matrices, with the second moments of their inputs where there are any."""
    if stage.data is None:
        return [(name, None) for name in step.matrices]
    collectors = {name: SecondMoment(module.weight.shape[1]) for name, module in step.matrices.items()}
    step.collect({name: [one] for name, one in collectors.items()})
    return [(name, one.moment) for name, one in collectors.items()]


def _round(stage: QuantizeStage, step: Step, name: str, grid: Grid, moment: Tensor | None) -> Row:
    weight = step.matrices[name].weight.detach().clone()
    row: Row = {"name": f"{step.name}.{name}", "shape": list(weight.shape), "bits": grid.bits, "group": grid.group}
    if stage.method == "gptq":
        assert moment is not None
        try:
            outcome = gptq(weight, moment, grid, damping=stage.damping, order=stage.order)
        except LuhuoError as error:
            error.where = row["name"]
            raise
        rounded = outcome.rounded
        row |= {"damping": outcome.damping, "dead": outcome.dead}
    else:
        rounded = rtn(weight, grid)
    if moment is not None:
        row["error"] = relative_error(weight, dense(rounded), moment)
    step.put(name, Kept(rounded))
    return row


def _gptq_rounded(stage: QuantizeStage, weight: Tensor, moment: Tensor, grid: Grid) -> Rounded:
    return gptq(weight, moment, grid, damping=stage.damping, order=stage.order).rounded


def _tell(stage: QuantizeStage, out: Workspace, report: list[Row], grid: Grid, bits: float) -> None:
    """The stage's results, and in words what was out of the ordinary."""
    size = directory_bytes(str(out.path))
    out.results |= {
        "bytes": size,
        "bytes_before": directory_bytes(stage.model),
        "bits": bits,
        "group": grid.group,
    }
    errors = [row["error"] for row in report if "error" in row]
    if errors:
        out.results["error"] = sum(errors) / len(errors)
    raised = [row["name"] for row in report if row.get("damping", stage.damping) > stage.damping]
    if raised:
        out.results["raised_damping"] = len(raised)
        say(
            tr(
                f"{len(raised)} matrices had a second moment without Cholesky factor; their damping was raised: "
                f"{', '.join(raised[:4])}",
                f"{len(raised)} 个矩阵的二阶矩无法 Cholesky 分解，已加大阻尼：{', '.join(raised[:4])}",
            )
        )
    dead = sum(row.get("dead", 0) for row in report)
    if dead:
        out.results["dead_columns"] = dead
