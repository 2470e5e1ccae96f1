"""Pruning single weights: a walk through the model, a mask for each matrix, and a dense directory with zeros."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from luhuo.compress.calibration import drawn
from luhuo.compress.experts import say_that_they_stay, with_inputs
from luhuo.compress.inputs import Magnitudes, SecondMoment
from luhuo.compress.mixed_bits import experts_of
from luhuo.compress.prune.allocation import outliers, owl
from luhuo.compress.prune.magnitude import global_threshold, magnitude
from luhuo.compress.prune.memory import check_room
from luhuo.compress.prune.sparsegpt import sparsegpt
from luhuo.compress.prune.target import Target, share_of_zeros
from luhuo.compress.prune.wanda import wanda
from luhuo.compress.rtn import rtn
from luhuo.compress.walk import Step, Walk
from luhuo.compress.write import write_model
from luhuo.core.atomic import write_json
from luhuo.core.errors import LuhuoError
from luhuo.kernels.sparsity import Pattern
from luhuo.model.grid import Grid
from luhuo.model.layers import Linear
from luhuo.model.matrices import Kept
from luhuo.model.quantised import Rounded, joined_rows
from luhuo.train.optimisers.groups import fused_rows, parts
from luhuo.train.sparsity import cubic

if TYPE_CHECKING:
    from luhuo.compress.prune.stages import PruneStage
    from luhuo.core.artifact import Workspace

SCRATCH = ".walk"
INPUTS = {"wanda": Magnitudes, "sparsegpt": SecondMoment}
"""What a method asks of the inputs of a matrix."""
Row = dict[str, Any]
"""What is told of a matrix."""


def prune_weights(stage: PruneStage, out: Workspace) -> None:
    """Write the model directory and `report.json`, a row for each matrix with its share of zeros."""
    scratch = out.path / SCRATCH
    given = drawn(stage) if stage.needs_data else None
    shares = []
    if stage.allocation == "owl":
        shutil.rmtree(scratch / "owl", ignore_errors=True)  # measured again where a run was cut off
        with Walk(stage.model, given, scratch / "owl", title="prune: owl") as walk:
            shares = _by_outliers(walk, _target(stage).sparsity)
    with Walk(stage.model, given, scratch, title=f"prune: {stage.method}") as walk:
        check_room(walk, stage.method)
        worker = _Worker(stage, walk, shares)
        for step in walk:
            rows = [worker.prune(step, name) for name in worker.collected(step)]
            step.notes["matrices"] = rows + [worker.prune_experts(step, name) for name in step.expert_matrices]
        write_model(walk, out.path, walk.finished())
        report = [row for notes in walk.notes() for row in notes["matrices"]]
    shutil.rmtree(scratch)
    write_json(out.path / "report.json", report)
    _tell(out, report)


def _target(stage: PruneStage) -> Target:
    if stage.pattern:
        pattern = Pattern.parse(stage.pattern)
        return Target(pattern.sparsity, pattern)
    return Target(stage.share * cubic(stage.round / stage.rounds))


def _by_outliers(walk: Walk, sparsity: float) -> list[float]:
    """The sparsity of each block of the unchanged model."""
    found, sizes = [], []
    for step in walk:
        seen = {name: Magnitudes(module.weight.shape[1]) for name, module in step.matrices.items()}
        step.collect({name: [one] for name, one in seen.items()})
        counts = [outliers(step.matrices[name].weight, one.squares) for name, one in seen.items()]
        sizes.append(sum(size for _, size in counts))
        found.append(sum(count for count, _ in counts) / sizes[-1])
    return owl(found, sizes, sparsity)


class _Worker:
    """Prunes the matrices of one block after another as the stage says."""

    def __init__(self, stage: PruneStage, walk: Walk, shares: list[float]) -> None:
        self.stage, self.shares, self.target = stage, shares, _target(stage)
        self.fused = fused_rows(walk.model)
        if self.target.pattern is not None:
            for name, weight in _matrices(walk):
                self.target.pattern.check(weight.shape[-1], name)
        self.grid = None if stage.bits is None else Grid(stage.bits, stage.group)
        if self.grid is not None:
            for _, weight in _matrices(walk):
                self.grid.width(weight.shape[-1])
        self.threshold = None
        if stage.scope == "global":
            self.threshold = global_threshold(lambda: _read(walk), self.target.sparsity)
        self.inputs: dict[str, Magnitudes | SecondMoment] = {}
        if not experts_of(walk):
            say_that_they_stay(walk)

    def collected(self, step: Step) -> list[str]:
        """The names of the block's matrices, when what the method asks of their inputs has been measured."""
        kind = INPUTS.get(self.stage.method)
        if kind is not None:
            self.inputs = {name: kind(module.weight.shape[1]) for name, module in step.matrices.items()}
            step.collect({name: [one] for name, one in self.inputs.items()})
        return list(step.matrices)

    def prune(self, step: Step, name: str) -> Row:
        """Prune one matrix; of fused ones each for itself. Gives its row of the report."""
        weight = step.matrices[name].weight.detach().clone()
        value, told = self._pruned(step, name, weight, self.inputs.get(name))
        step.put(name, Kept(value))
        return {"name": f"{step.name}.{name}", "shape": list(weight.shape), **told}

    def prune_experts(self, step: Step, name: str) -> Row:
        """Prune the experts' matrices in one parameter, each for the tokens it is sent; those that none reaches by
        magnitude."""
        matrices, kind = step.expert_matrices[name], INPUTS.get(self.stage.method)
        each = ((one, None) for one in matrices.detach()) if kind is None else with_inputs(step, name, kind)
        found = [self._pruned(step, name, weight, seen) for weight, seen in each]
        values = [value for value, _ in found]
        rounded = [value for value in values if isinstance(value, Rounded)]
        whole = joined_rows(rounded) if rounded else torch.stack([v for v in values if isinstance(v, Tensor)])
        step.put_experts(name, whole)
        row: Row = {"name": f"{step.name}.{name}", "shape": list(matrices.shape)}
        for key in ("sparsity", "error", "damping"):
            said = [told[key] for _, told in found if key in told]
            row |= {key: max(said) if key == "damping" else sum(said) / len(said)} if said else {}
        return row

    def _pruned(
        self, step: Step, name: str, weight: Tensor, seen: Magnitudes | SecondMoment | None
    ) -> tuple[Tensor | Rounded, Row]:
        """A matrix (rows, columns) with zeros, on the grid if there is one, and what is told of it."""
        target = self.target.at(self.shares[step.index]) if self.shares else self.target
        rows = parts(name, weight, self.fused)
        if isinstance(seen, SecondMoment) and seen.count:
            try:
                outcome = sparsegpt(weight, seen.moment, target, damping=self.stage.damping, rows=rows, grid=self.grid)
            except LuhuoError as error:
                error.where = f"{step.name}.{name}"
                raise
            told = {"error": outcome.error, "damping": outcome.damping, "sparsity": share_of_zeros(outcome.weight)}
            return outcome.weight if outcome.rounded is None else outcome.rounded, told
        pruned = weight * torch.cat([self._mask(part, seen, target) for part in weight.split(list(rows))])
        value = pruned if self.grid is None else rtn(pruned, self.grid)
        return value, {"sparsity": share_of_zeros(pruned)}

    def _mask(self, weight: Tensor, seen: Magnitudes | SecondMoment | None, target: Target) -> Tensor:
        if self.threshold is not None:
            return weight.abs() > self.threshold
        if isinstance(seen, Magnitudes) and seen.count:
            return wanda(weight, seen.squares, target)
        return magnitude(weight, target, "matrix" if self.stage.scope == "matrix" else "row")


def _matrices(walk: Walk) -> Iterator[tuple[str, Tensor]]:
    """The parameters of matrices in the blocks, of experts' too, by their names."""
    for name, module in walk.model.named_modules():
        if name.startswith("blocks.") and type(module) is Linear:
            yield f"{name}.weight", module.weight
    for name in experts_of(walk):
        yield name, walk.model.get_parameter(name)


def _read(walk: Walk) -> Iterator[Tensor]:
    """The matrices of the blocks, one at a time, from the files."""
    wanted = {name for name, _ in _matrices(walk)}
    for link, names in walk.links:
        if link.ours in wanted:
            yield link.join([walk.weights.tensor(name) for name in names]).flatten(0, -2)


def _tell(out: Workspace, report: list[dict[str, Any]]) -> None:
    """The stage's results, and in words what was out of the ordinary."""
    sizes = [math.prod(row["shape"]) for row in report]
    zeros = sum(row["sparsity"] * size for row, size in zip(report, sizes, strict=True))
    out.results |= {"sparsity": zeros / sum(sizes), "matrices": len(report)}
    errors = [row["error"] for row in report if "error" in row]
    if errors:
        out.results["error"] = sum(errors) / len(errors)
