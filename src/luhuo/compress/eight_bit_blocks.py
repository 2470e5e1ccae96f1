"""Methods that round the inputs of a block's matrices too: W8A8, SmoothQuant, LLM.int8 and FP8."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from luhuo.compress import smoothquant
from luhuo.compress.folding import fold, folds
from luhuo.compress.fp8_weights import Per, fp8
from luhuo.compress.inputs import Magnitudes, Sample
from luhuo.compress.llm_int8 import llm_int8, outliers
from luhuo.compress.parts import dense_of
from luhuo.compress.w8a8 import Scales, by_tensor, product_error, round_weight
from luhuo.compress.walk import Step
from luhuo.model.matrices import Activations, Kept

TOKENS = 512
"""Inputs of each matrix on which errors are measured."""

Row = dict[str, Any]


class _Inputs:
    """What is kept of the inputs of a block's matrices: the largest of each column, and a sample."""

    def __init__(self, step: Step, seed: int) -> None:
        columns = {name: module.weight.shape[1] for name, module in step.matrices.items()}
        magnitudes = {name: Magnitudes(count) for name, count in columns.items()}
        samples = {name: Sample(count, TOKENS, seed + step.index) for name, count in columns.items()}
        step.collect({name: [magnitudes[name], samples[name]] for name in columns})
        self.largest = {name: one.largest for name, one in magnitudes.items()}
        self.rows = {name: one.rows for name, one in samples.items()}

    def divide(self, name: str, scale: Tensor) -> None:
        """Scale the columns, as folding did."""
        self.largest[name] = self.largest[name] / scale
        self.rows[name] = self.rows[name] / scale


def w8a8_block(step: Step, scales: Scales, percentile: float, seed: int, *, measured: bool) -> list[Row]:
    """Round weights by row and inputs by token, or by one scale of the calibration data; `measured`: there are any."""
    return _round(step, _Inputs(step, seed) if measured else None, scales, percentile, {})


def smooth_block(step: Step, scales: Scales, exponent: float | None, percentile: float, seed: int) -> list[Row]:
    """The same after the inputs were made even wherever something before them can be divided; `smoothed`: α.

    A given `exponent` is taken behind norms only, as in the paper; otherwise each input has the best, or none.
    """
    inputs = _Inputs(step, seed)
    vectors = {name: p.detach().clone() for name, p in step.block.named_parameters() if p.dim() == 1}
    smoothed: dict[str, str] = {}
    chosen = []
    for place in folds(step.block):  # pyright: ignore[reportArgumentType]
        first = place.matrices[0]
        if exponent is not None and not place.behind_norm:
            continue
        weights = [step.matrices[name].weight.detach() for name in place.matrices]
        choice = smoothquant.search(
            weights, inputs.largest[first], inputs.rows[first], scales, exponent=exponent, shared=place.shared
        )
        told = "no gain" if choice.exponent is None else f"{choice.exponent:.2f}"
        smoothed |= dict.fromkeys(place.matrices, told)
        if choice.exponent is not None:
            chosen.append((place, choice))
    for place, choice in chosen:
        taken = fold(step.block, place, choice.scale)  # pyright: ignore[reportArgumentType]
        for name in place.matrices:
            inputs.divide(name, taken)
    step.keep(*(name for name, was in vectors.items() if not torch.equal(was, step.block.get_parameter(name))))
    return _round(step, inputs, scales, percentile, smoothed)


def _round(
    step: Step, inputs: _Inputs | None, scales: Scales, percentile: float, smoothed: dict[str, str]
) -> list[Row]:
    told = []
    for name, module in step.matrices.items():
        weight = module.weight.detach().clone()
        row: Row = {"name": f"{step.name}.{name}", "shape": list(weight.shape), "bits": 8, "group": None}
        fixed = None
        if inputs is not None:
            rows = inputs.rows[name]
            if scales == "tensor":
                fixed = by_tensor(rows, float(inputs.largest[name].max()), percentile)
            row["error"] = product_error(rows, weight, fixed)
        told.append(row | ({"smoothed": smoothed[name]} if name in smoothed else {}))
        of_inputs = Activations(scale=None if fixed is None else torch.tensor([fixed]))
        step.put(name, Kept(round_weight(weight), of_inputs))
    return told


def llm_int8_block(step: Step, threshold: float, seed: int, *, measured: bool) -> list[Row]:
    """Round weights by row; columns of the inputs above the threshold will be multiplied unrounded.

    `measured`: there is calibration text, and how many columns that were in it is told.
    """
    inputs = _Inputs(step, seed) if measured else None
    told = []
    for name, module in step.matrices.items():
        weight = module.weight.detach().clone()
        row: Row = {"name": f"{step.name}.{name}", "shape": list(weight.shape), "bits": 8, "group": None}
        if inputs is not None:
            row["outliers"] = outliers(inputs.largest[name], threshold)
        told.append(row)
        step.put(name, llm_int8(weight, threshold))
    return told


def fp8_block(step: Step, per: Per, *, inputs: bool) -> list[Row]:
    """Round weights to E4M3; `inputs`: each token's inputs too, where they are multiplied."""
    told = []
    for name, module in step.matrices.items():
        weight = module.weight.detach().clone()
        kept = Kept(fp8(weight, per), Activations("float") if inputs else None)
        error = (dense_of(kept.value) - weight).square().sum() / weight.square().sum().clamp(min=1e-30)
        told.append(
            {"name": f"{step.name}.{name}", "shape": list(weight.shape), "bits": 8, "weight_error": float(error)}
        )
        step.put(name, kept)
    return told
