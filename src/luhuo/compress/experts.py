"""The experts' matrices of a block, each changed for the tokens that the router sends to it.

They are gone through after the block's other matrices, and the second ones after the first, so that each is rounded
for what the rounded ones before it give. An expert that no token of the calibration text reaches is rounded to the
nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from torch import Tensor

from luhuo.compress.gptq import relative_error
from luhuo.compress.inputs import Collector, SecondMoment
from luhuo.compress.rtn import rtn
from luhuo.compress.walk import Step, Walk
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.model.grid import Grid, dense
from luhuo.model.quantised import Rounded, joined_rows

MOMENT_BYTES = 1_000_000_000
"""Second moments that are in memory at once; the text goes through the block once for each lot of experts."""

Kind = TypeVar("Kind", bound=Collector)
Round = Callable[[Tensor, Tensor, float], Rounded]
"""A matrix (rows, columns), the second moment of its inputs, and how much more of them there should be (1: enough)."""


def round_experts(step: Step, grid: Grid, round_one: Round | None) -> list[dict[str, Any]]:
    """Round all experts' matrices of a block; what is told of each parameter. `round_one` None: to the nearest."""
    told = []
    for name, matrices in step.expert_matrices.items():
        row = {"name": f"{step.name}.{name}", "shape": list(matrices.shape), "bits": grid.bits, "group": grid.group}
        if round_one is None:
            rounded = [rtn(weight, grid) for weight in matrices.detach()]
        else:
            rounded, errors = _by_inputs(step, name, grid, round_one)
            row |= {"error": sum(errors) / max(1, len(errors)), "unseen": len(rounded) - len(errors)}
        step.put_experts(name, joined_rows(rounded))
        told.append(row)
    return told


def _by_inputs(step: Step, name: str, grid: Grid, round_one: Round) -> tuple[list[Rounded], list[float]]:
    """The experts' matrices in a parameter on their grids, and the errors of those that a token reached."""
    rounded, errors = [], []
    for weight, seen in with_inputs(step, name, SecondMoment):
        if not seen.count:
            rounded.append(rtn(weight, grid))
            continue
        rounded.append(round_one(weight, seen.moment, max(1.0, weight.shape[1] / seen.count)))
        errors.append(relative_error(weight, dense(rounded[-1]), seen.moment))
    return rounded, errors


def with_inputs(step: Step, name: str, kind: Callable[[int], Kind]) -> Iterator[tuple[Tensor, Kind]]:
    """Each expert's matrix (rows, columns) in a parameter, and what a collector saw of its inputs.

    The parameter may be changed when all were given, not before.
    """
    matrices = step.expert_matrices[name].detach()
    lot = experts_at_once(matrices.shape[2])
    for start in range(0, len(matrices), lot):
        seen = {expert: kind(matrices.shape[2]) for expert in range(start, min(start + lot, len(matrices)))}
        step.collect_of_experts(name, seen)
        for expert, collector in seen.items():
            yield matrices[expert].clone(), collector


def say_that_they_stay(walk: Walk) -> None:
    """Say that the experts' matrices of a mixture stay as they are."""
    if walk.config.moe is not None:
        say(tr("The experts' matrices stay as they are.", "专家的矩阵保持原样。"))


def experts_at_once(columns: int) -> int:
    """Experts whose second moments are in memory together."""
    return max(1, MOMENT_BYTES // (4 * columns**2))
