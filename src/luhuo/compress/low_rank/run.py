"""One run of stage `factorise`: ranks first, then block by block the factors, and the model directory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from luhuo.compress.calibration import drawn
from luhuo.compress.experts import say_that_they_stay
from luhuo.compress.gptq import relative_error
from luhuo.compress.inputs import Magnitudes, SecondMoment
from luhuo.compress.low_rank.asvd import root_of_magnitudes
from luhuo.compress.low_rank.ranks import Ranks, Shape, by_energy, size, uniform
from luhuo.compress.low_rank.svd import Decomposition, decompose, refitted
from luhuo.compress.low_rank.svd_llm import root_of_moment
from luhuo.compress.parts import read_factors
from luhuo.compress.sizes import check_memory, directory_bytes
from luhuo.compress.walk import Step, Walk
from luhuo.compress.write import FLOATS, SHARD_BYTES
from luhuo.core.atomic import write_json
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.model.factorised import Factors, low_rank_config
from luhuo.model.layers import Linear
from luhuo.model.save import describe, save_tokenizer, write_shards

if TYPE_CHECKING:
    from luhuo.compress.low_rank.stage import FactoriseStage
    from luhuo.core.artifact import Workspace

SCRATCH = ".walk"
WHOLE = "router"
"""Matrices of this name are small and decide much: they stay whole."""


def factorise(stage: FactoriseStage, out: Workspace) -> None:
    """Write the factorised model directory and `report.json`, a row for each matrix."""
    scratch = out.path / SCRATCH
    with _walk(stage, scratch / "look", "original") as walk:
        check_memory(needed_bytes(walk), what=stage.method)
        say_that_they_stay(walk)
        shapes = shapes_of(walk)
        ranks = uniform(shapes, stage.ratio, stage.multiple)
        if stage.allocation != "uniform":
            for step in walk:
                step.notes["seen"] = _look(stage, step, ranks)
            seen = {name: facts for notes in walk.notes() for name, facts in notes["seen"].items()}
            energies = {name: torch.tensor(facts["energies"], dtype=torch.float64) for name, facts in seen.items()}
            weights = {name: facts["weight"] for name, facts in seen.items()}
            ranks = by_energy(energies, shapes, stage.ratio, stage.multiple, weights)
    with _walk(stage, scratch, "changed") as walk:
        for step in walk:
            step.notes["matrices"] = [_replace(stage, step, name, ranks) for name in matrices(step)]
        write_factorised(walk, out.path)
        report = [row for notes in walk.notes() for row in notes["matrices"]]
    write_json(out.path / "report.json", report)
    shutil.rmtree(scratch)
    _tell(stage, out, report)


def _walk(stage: FactoriseStage, scratch: Path, through: Any) -> Walk:
    title = tr("ranks", "秩") if through == "original" else f"factorise {stage.method}"
    return Walk(stage.model, drawn(stage), scratch, through=through, title=title)


def shapes_of(walk: Walk) -> dict[str, Shape]:
    """Rows and columns of the matrices that are factorised, by their names in the model."""
    found = ((name, part) for name, part in walk.model.blocks.named_modules(prefix="blocks") if type(part) is Linear)
    return {name: (len(part.weight), part.weight.shape[1]) for name, part in found if not name.endswith(WHOLE)}


def matrices(step: Step) -> list[str]:
    """The names in the block of the matrices that are factorised."""
    return [name for name in step.matrices if not name.endswith(WHOLE)]


def needed_bytes(walk: Walk) -> int:
    """Memory for the largest block in fp32, the decomposition of its largest matrix in fp64, and the batch at hand."""
    shapes = shapes_of(walk).values()
    block = max(sum(p.numel() for p in block.parameters()) for block in walk.model.blocks)
    moments = 4 * sum({columns**2 for _, columns in shapes})
    states = 0 if walk.sequences is None else walk.sequences.numel() * walk.config.hidden_size
    largest = max((rows * columns + max(rows, columns) ** 2 for rows, columns in shapes), default=0)
    return 4 * (2 * block + moments + states) + 8 * 4 * largest


def _look(stage: FactoriseStage, step: Step, ranks: Ranks) -> dict[str, dict[str, Any]]:
    """The squared singular values of the block's matrices, and what a unit of lost energy costs the block's output."""
    found = {}
    for name in matrices(step):
        weight = step.matrices[name].weight.detach().clone()
        decomposition, _ = _decomposed(stage, step, name)
        full = f"{step.name}.{name}"
        rank, cost = ranks[full], 1.0
        if stage.allocation == "outputs" and rank is not None:
            lost = decomposition.loss(rank)
            cost = _suffers(step, name, decomposition.factors(rank)) / max(lost, 1e-12)
            step.matrices[name].weight.data.copy_(weight)
        found[full] = {"energies": decomposition.values.square().tolist(), "weight": cost}
    return found


@torch.no_grad()
def _suffers(step: Step, name: str, factors: Factors) -> float:
    """The squared error of the block's output when one matrix is factorised, over that of what the block adds."""
    whole = [after - before for before, after in step.forward()]
    step.matrices[name].weight.copy_(factors.dense())
    changed = (after - before for before, after in step.forward())
    error = energy = 0.0
    for right, found in zip(whole, changed, strict=True):
        error += float((found - right).square().sum(dtype=torch.float64))
        energy += float(right.square().sum(dtype=torch.float64))
    return error / max(energy, 1e-30)


def _decomposed(stage: FactoriseStage, step: Step, name: str) -> tuple[Decomposition, Tensor | None]:
    """A matrix decomposed under its inputs as the block now has them, and their second moment if they are known."""
    weight = step.matrices[name].weight.detach()
    if stage.data is None:
        return decompose(weight), None
    magnitudes, moment = Magnitudes(weight.shape[1]), SecondMoment(weight.shape[1])
    step.collect({name: [magnitudes, moment]})
    if stage.method == "asvd":
        return decompose(weight, root_of_magnitudes(magnitudes.mean, stage.alpha)), moment.moment
    if stage.method == "svd-llm":
        return decompose(weight, root_of_moment(moment.moment)[0]), moment.moment
    return decompose(weight), moment.moment


def _replace(stage: FactoriseStage, step: Step, name: str, ranks: Ranks) -> dict[str, Any]:
    """Put factors in the place of a matrix, the inputs being what the matrices before it now make of them."""
    weight = step.matrices[name].weight.detach().clone()
    rank = ranks[f"{step.name}.{name}"]
    row: dict[str, Any] = {"name": f"{step.name}.{name}", "shape": list(weight.shape), "rank": rank}
    if rank is None:
        return row
    decomposition, moment = _decomposed(stage, step, name)
    factors = decomposition.factors(rank)
    if moment is not None and stage.refit and stage.method != "svd-llm":
        factors = refitted(weight, factors, moment)
    whole = factors.dense()
    row["weight_error"] = float((weight - whole).square().sum() / weight.square().sum().clamp(min=1e-30))
    if moment is not None:
        row["error"] = max(0.0, relative_error(weight, whole, moment))
    step.put_factors(name, factors)
    return row


def write_factorised(walk: Walk, root: Path) -> None:
    """Write the directory: factors where a matrix became such, all else as the original's files have it."""
    config, metadata = save_tokenizer(root, walk.config, walk.model.tokenizer)
    dtype = FLOATS.get(str(walk.values.get("dtype") or walk.values.get("torch_dtype")), torch.float32)
    found = {
        f"blocks.{index}.{name}": factors
        for index in range(len(walk.model.blocks))
        for name, factors in read_factors(walk.part(index)).items()
    }
    sizes = [(name, tensor.nbytes) for name, tensor in _tensors(walk, found)]
    tensors = ((name, tensor.contiguous()) for name, tensor in _tensors(walk, found))
    write_shards(root, sizes, tensors, metadata, SHARD_BYTES)
    ranks = {name.removesuffix(".weight"): factors.rank for name, factors in found.items()}
    describe(root, config, dtype, low_rank_config(ranks) if ranks else None)


def _tensors(walk: Walk, found: Mapping[str, Factors]) -> Iterator[tuple[str, Tensor]]:
    for link, names in walk.links:
        factors = found.get(link.ours)
        if factors is None:
            yield from zip(link.theirs, (walk.weights.tensor(name) for name in names), strict=True)
            continue
        was, owner = walk.weights.tensor(names[0]).dtype, link.ours.removesuffix(".weight")
        dtype = was if was.is_floating_point and was.itemsize > 1 else torch.bfloat16
        yield f"{owner}.a", factors.a.to(dtype)
        yield f"{owner}.b", factors.b.to(dtype)


def _tell(stage: FactoriseStage, out: Workspace, report: list[dict[str, Any]]) -> None:
    """The stage's results, and in words what stayed whole."""
    shapes = {row["name"]: (row["shape"][0], row["shape"][1]) for row in report}
    kept = sum(size(shapes[row["name"]], row["rank"]) for row in report)
    whole = sum(size(shape, None) for shape in shapes.values())
    errors = [row.get("error", row.get("weight_error", 0.0)) for row in report]
    out.results |= {
        "bytes": directory_bytes(str(out.path)),
        "bytes_before": directory_bytes(stage.model),
        "share_kept": kept / whole,
        "error": sum(errors) / len(errors),
        "whole": sum(row["rank"] is None for row in report),
    }
    say(
        tr(
            f"{kept / whole:.1%} of the matrices' numbers are kept; of their outputs' energy "
            f"{out.results['error']:.2%} is lost on average.",
            f"保留了 {kept / whole:.1%} 的矩阵参数；输出能量平均损失 {out.results['error']:.2%}。",
        )
    )
