"""Pruning single weights: a walk through the model, a mask for each matrix, and a dense directory with zeros."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from luhuo.compress.calibration import drawn
from luhuo.compress.inputs import Magnitudes, SecondMoment
from luhuo.compress.prune.allocation import outliers, owl
from luhuo.compress.prune.magnitude import global_threshold, magnitude
from luhuo.compress.prune.memory import check_room
from luhuo.compress.prune.sparsegpt import sparsegpt
from luhuo.compress.prune.target import Target, share_of_zeros
from luhuo.compress.prune.wanda import wanda
from luhuo.compress.walk import Step, Walk
from luhuo.compress.write import write_model
from luhuo.core.atomic import write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.kernels.sparsity import Pattern
from luhuo.model.grid import Grid
from luhuo.model.layers import Linear
from luhuo.model.matrices import Kept
from luhuo.train.optimisers.groups import fused_rows, parts
from luhuo.train.sparsity import cubic

if TYPE_CHECKING:
    from luhuo.compress.prune.stages import PruneStage
    from luhuo.core.artifact import Workspace

SCRATCH = ".walk"


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
            step.notes["matrices"] = [worker.prune(step, name) for name in worker.collected(step)]
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
            for name, weight in _matrices(walk.model):
                self.target.pattern.check(weight.shape[1], name)
        self.grid = None if stage.bits is None else Grid(stage.bits, stage.group)
        if self.grid is not None:
            for _, weight in _matrices(walk.model):
                self.grid.width(weight.shape[1])
        self.threshold = None
        if stage.scope == "global":
            self.threshold = global_threshold(lambda: _read(walk), self.target.sparsity)
        self.inputs: dict[str, Magnitudes | SecondMoment] = {}
        if walk.config.moe is not None:
            say(tr("The experts' matrices stay as they are.", "专家的矩阵保持原样。"))

    def collected(self, step: Step) -> list[str]:
        """The names of the block's matrices, when what the method asks of their inputs has been measured."""
        kinds = {"wanda": Magnitudes, "sparsegpt": SecondMoment}
        if self.stage.method in kinds:
            kind = kinds[self.stage.method]
            self.inputs = {name: kind(module.weight.shape[1]) for name, module in step.matrices.items()}
            step.collect({name: [one] for name, one in self.inputs.items()})
        return list(step.matrices)

    def prune(self, step: Step, name: str) -> dict[str, Any]:
        """Prune one matrix; of fused ones each for itself. Gives its row of the report."""
        weight = step.matrices[name].weight.detach().clone()
        target = self.target.at(self.shares[step.index]) if self.shares else self.target
        row: dict[str, Any] = {"name": f"{step.name}.{name}", "shape": list(weight.shape)}
        rows = parts(name, weight, self.fused)
        if self.stage.method == "sparsegpt":
            moment = self._moment(name)
            try:
                outcome = sparsegpt(weight, moment, target, damping=self.stage.damping, rows=rows, grid=self.grid)
            except LuhuoError as error:
                error.where = row["name"]
                raise
            row |= {"error": outcome.error, "damping": outcome.damping}
            step.put(name, Kept(outcome.weight if outcome.rounded is None else outcome.rounded))
            pruned = outcome.weight
        else:
            masks = [self._mask(part, name, target) for part in weight.split(list(rows))]
            pruned = weight * torch.cat(masks)
            step.put(name, Kept(pruned))
        return row | {"sparsity": share_of_zeros(pruned)}

    def _mask(self, weight: Tensor, name: str, target: Target) -> Tensor:
        if self.threshold is not None:
            return weight.abs() > self.threshold
        if self.stage.method == "wanda":
            inputs = self.inputs[name]
            assert isinstance(inputs, Magnitudes)
            return wanda(weight, inputs.squares, target)
        return magnitude(weight, target, "matrix" if self.stage.scope == "matrix" else "row")

    def _moment(self, name: str) -> Tensor:
        inputs = self.inputs[name]
        assert isinstance(inputs, SecondMoment)
        return inputs.moment


def _matrices(model: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The matrices of the blocks by the names of their parameters."""
    for name, module in model.named_modules():
        if name.startswith("blocks.") and type(module) is Linear:
            yield f"{name}.weight", module.weight


def _read(walk: Walk) -> Iterator[Tensor]:
    """The matrices of the blocks, one at a time, from the files."""
    wanted = {name for name, _ in _matrices(walk.model)}
    for link, names in walk.links:
        if link.ours in wanted:
            yield link.join([walk.weights.tensor(name) for name in names])


def _tell(out: Workspace, report: list[dict[str, Any]]) -> None:
    """The stage's results, and in words what was out of the ordinary."""
    sizes = [row["shape"][0] * row["shape"][1] for row in report]
    zeros = sum(row["sparsity"] * size for row, size in zip(report, sizes, strict=True))
    out.results |= {"sparsity": zeros / sum(sizes), "matrices": len(report)}
    errors = [row["error"] for row in report if "error" in row]
    if errors:
        out.results["error"] = sum(errors) / len(errors)
