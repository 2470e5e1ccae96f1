"""LQER (Zhang et al. 2024): W ≈ W_q + B A, with B A the truncated decomposition of the rounding error E = W - W_q.

L²QER (section 3.2 there) decomposes E S with the diagonal S of the inputs' mean magnitudes, so that errors at large
inputs come first. With the inputs' second moment in the place of S² what is left of the outputs' error is least.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from luhuo.adapter.attach import attach
from luhuo.adapter.config import AdapterConfig
from luhuo.adapter.files import save
from luhuo.adapter.open import open_decoder
from luhuo.compress.calibration import drawn
from luhuo.compress.experts import say_that_they_stay
from luhuo.compress.gptq import relative_error
from luhuo.compress.inputs import Magnitudes, SecondMoment
from luhuo.compress.low_rank.asvd import root_of_magnitudes
from luhuo.compress.low_rank.svd import decompose
from luhuo.compress.low_rank.svd_llm import root_of_moment
from luhuo.compress.walk import Step, Walk
from luhuo.core.atomic import write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.files.references import resolve
from luhuo.model.factorised import Factors
from luhuo.model.families.links import Link
from luhuo.model.load import read_values
from luhuo.model.packed import unpacked
from luhuo.model.quantised_files import RoundedWeights
from luhuo.model.weights import SafetensorsWeights, Weights, matched

if TYPE_CHECKING:
    from luhuo.compress.low_rank.lqer_stage import LqerStage
    from luhuo.core.artifact import Workspace

SCRATCH = ".walk"


def residual(weight: Tensor, rounded: Tensor, rank: int, root: Tensor | None = None) -> Factors:
    """The best factors of this rank of the error of a rounded matrix (rows, columns), seen through `root`."""
    return decompose(weight - rounded, root).factors(rank)


def correct(stage: LqerStage, out: Workspace) -> None:
    """Write the adapter and `report.json`."""
    scratch = out.path / SCRATCH
    found: dict[str, Factors] = {}
    report: list[dict[str, Any]] = []
    with (
        Walk(stage.model, drawn(stage), scratch, through="original", title="lqer") as walk,
        _quantised(stage) as files,
    ):
        rounded = unpacked(files, read_values(files.where))
        _check(rounded)
        say_that_they_stay(walk)
        spelled = {link.ours: (link, names) for link, names in matched(walk.model, walk.config, rounded)}
        for step in walk:
            for name in step.matrices:
                link, names = spelled[f"{step.name}.{name}.weight"]
                report += _corrected(stage, step, name, link, [rounded.tensor(one).float() for one in names], found)
    shutil.rmtree(scratch)
    model = open_decoder(stage.quantised, device="cpu")
    adapter = attach(model, AdapterConfig(method="lora", rank=stage.rank, alpha=float(stage.rank)))
    adapter.load(
        {f"{name}.lora_A.weight": pair.a for name, pair in found.items()}
        | {f"{name}.lora_B.weight": pair.b for name, pair in found.items()}
    )
    adapter.base = stage.quantised
    save(model, out.path)
    if model.tokenizer is not None:
        model.tokenizer.save(out.path)
    write_json(out.path / "report.json", report)
    before, after = (sum(row[key] for row in report) / len(report) for key in ("error_before", "error"))
    out.results |= {"error_before": before, "error": after}
    out.results["parameters"] = sum(pair.a.numel() + pair.b.numel() for pair in found.values())
    say(
        tr(
            f"Of the outputs' energy rounding took {before:.3%}; with the adapter it is {after:.3%}.",
            f"量化损失输出能量的 {before:.3%}；加上适配器后为 {after:.3%}。",
        )
    )


def _quantised(stage: LqerStage) -> SafetensorsWeights:
    return SafetensorsWeights(resolve(stage.quantised).path)


def _check(rounded: Weights) -> None:
    """Raise `LuhuoError` for a model that is not quantised."""
    if not isinstance(rounded, RoundedWeights):
        raise LuhuoError(
            tr("This model is not quantised.", "该模型没有量化。"),
            where=rounded.where,
            fix=tr("Make it with luhuo quantize.", "请先用 luhuo quantize 量化。"),
        )


def _corrected(
    stage: LqerStage, step: Step, name: str, link: Link, parts: list[Tensor], found: dict[str, Factors]
) -> list[dict[str, Any]]:
    """Put the corrections of a matrix' published parts into `found`, and tell what they do."""
    weight = step.matrices[name].weight.detach()
    magnitudes, moment = Magnitudes(weight.shape[1]), SecondMoment(weight.shape[1])
    step.collect({name: [magnitudes, moment]})
    root = None
    if stage.scaling == "activation":
        root = root_of_magnitudes(magnitudes.mean, 1.0)
    elif stage.scaling == "moment":
        root = root_of_moment(moment.moment)[0]
    rows = []
    for theirs, own, few in zip(link.theirs, link.split(weight), link.split(link.join(parts)), strict=True):
        owner = theirs.removesuffix(".weight")
        transposed = own.shape[1] != weight.shape[1]
        own, few = (own.T, few.T) if transposed else (own, few)
        pair = residual(own, few, min(stage.rank, *own.shape), root)
        found[owner] = _filled(pair, stage.rank)
        rows.append(
            {
                "name": owner,
                "shape": list(own.shape),
                "error_before": relative_error(own, few, moment.moment),
                "error": relative_error(own, few + pair.dense(), moment.moment),
            }
        )
    return rows


def _filled(pair: Factors, rank: int) -> Factors:
    """Factors filled up with zeros to a rank: those of matrices that are smaller than it."""
    missing = rank - pair.rank
    a = torch.nn.functional.pad(pair.a, (0, 0, 0, missing))
    return Factors(a, torch.nn.functional.pad(pair.b, (0, missing)))
