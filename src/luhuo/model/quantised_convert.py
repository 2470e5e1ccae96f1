"""From one layout of a quantised directory to another, with the integers it has: no matrix is rounded again.

A tensor at a time: neither the source nor the result is in memory as a whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from luhuo.core.atomic import write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.model.families import fit, read_config
from luhuo.model.families.links import same
from luhuo.model.load import MODELS, read_values
from luhuo.model.matrices import Kept
from luhuo.model.packed import unpacked
from luhuo.model.quantised import Rounded
from luhuo.model.quantised_awq import awq_config, of_awq
from luhuo.model.quantised_bitsandbytes import bitsandbytes_config, of_bitsandbytes
from luhuo.model.quantised_files import RoundedWeights
from luhuo.model.quantised_gptq import gptq_config, of_gptq
from luhuo.model.quantised_save import NORM, config_of, published
from luhuo.model.save import write_shards
from luhuo.model.weights import SafetensorsWeights, matched

LAYOUTS = ("compressed-tensors", "gptq", "awq", "bitsandbytes")
Parts = Callable[[str, Rounded], dict[str, Tensor]]
"""A matrix' name and numbers to its tensors, by the endings of their names."""


def convert(source: Path, to: str, folder: Path, note: Callable[[str], None] = say) -> None:
    """Write the quantised directory `source` in the layout `to`. Raises `LuhuoError` for a source that is not
    quantised to integers, or that this layout does not hold."""
    values = read_values(source)
    with SafetensorsWeights(source) as files:
        weights = unpacked(files, values)
        if not isinstance(weights, RoundedWeights) or not weights.bits:
            found = (values.get("quantization_config") or {}).get("quant_method") or values.get("dtype")
            raise LuhuoError(
                tr("Only a model quantised to integers is written in this layout.", "该布局只写整数量化的模型。"),
                found=found,
                where=source,
                fix="luhuo quantize model=… method=gptq out=DIR",
            )
        outline = {name: _outline(weights, name) for name in weights.shapes() if weights.is_rounded(name)}
        parts, settings = _layout(to, weights, outline, _dense(weights, values, source))
        sizes = [(name, tensor.nbytes) for name, tensor in _tensors(weights, parts)]
        folder.mkdir(parents=True, exist_ok=True)
        write_shards(folder, sizes, _tensors(weights, parts), files.metadata)
        if any(weights.activations(name) for name in outline) and to in ("gptq", "awq"):
            note(
                tr(
                    "This layout does not say that inputs are rounded: readers will not.",
                    "该布局不记录输入的舍入，读取方不会舍入。",
                )
            )
        if not all(one.halves for one in outline.values()) and to in ("gptq", "awq"):
            note(tr("Scales are rounded to half precision.", "缩放舍入到半精度。"))
    for file in sorted(source.iterdir()):
        if file.is_file() and not file.name.startswith(LEFT) and not file.name.endswith(LEFT_TOO):
            shutil.copyfile(file, folder / file.name)
    write_json(folder / "config.json", values | {"quantization_config": settings})
    if to == "gptq":  # where programs before transformers looked for it
        write_json(folder / "quantize_config.json", settings)


LEFT, LEFT_TOO = (".", "manifest", "report.json", "quantize_config"), (".safetensors", ".safetensors.index.json")
"""Files of the source that do not go along, by how they begin and end."""


@dataclass(frozen=True)
class Outline:
    """What a layout is chosen by."""

    shape: Rounded
    """The matrix without its integers."""
    halves: bool
    """Whether its scales are numbers of half precision."""


def _outline(weights: RoundedWeights, name: str) -> Outline:
    found = weights.rounded(name)
    if found is None:
        raise LuhuoError(
            tr("A matrix of this model is not of integers in even groups.", "该模型有矩阵不是按等宽分组的整数。"),
            found=name,
            where=weights.where,
        )
    halves = torch.equal(found.scale.half().float(), found.scale.float())
    empty = torch.empty(found.q.shape, dtype=torch.int8, device="meta")
    return Outline(replace(found, q=empty), halves)


def _dense(weights: RoundedWeights, values: dict[str, Any], source: Path) -> list[str]:
    """Matrices in the blocks that are not rounded, and the output matrix if it is not, by their names in the files."""
    config = fit(read_config(values, source / "config.json"), weights.shapes())
    with torch.device("meta"):
        model = MODELS[type(config)](config)
    return [
        name.removesuffix(".weight")
        for link, names in matched(model, config, weights)
        for name in names
        if link.ours.startswith(("blocks.", "unembedding.weight")) and not NORM.search(link.ours)
        if len(weights.shapes()[name]) == 2 and not weights.is_rounded(name)
    ]


def _layout(
    to: str, weights: RoundedWeights, outline: Mapping[str, Outline], dense: list[str]
) -> tuple[Parts, dict[str, Any]]:
    """How matrices are written, and the `quantization_config`."""
    bases = {name.removesuffix(".weight"): one.shape for name, one in outline.items()}
    if to == "compressed-tensors":
        kept = [(base, Kept(one, weights.activations(f"{base}.weight"))) for base, one in bases.items()]
        return _compressed(weights), config_of(kept, dense or ["lm_head"], by_class=False)
    if to == "bitsandbytes":
        found = {one.threshold for name in outline if (one := weights.activations(name)) and one.threshold}
        return _eight_bits, bitsandbytes_config(max(found, default=0.0), dense or ["lm_head"])
    first = next(iter(bases.values()))
    other = next((b for b, one in bases.items() if (one.bits, one.group) != (first.bits, first.group)), None)
    if other is not None:
        raise LuhuoError(
            tr(
                "This layout has one number of bits and one group for all matrices.",
                "该布局的所有矩阵位数与分组须相同。",
            ),
            expected=f"{first.bits} / {first.group}",
            found=f"{bases[other].bits} / {bases[other].group}",
            where=other,
            fix="luhuo export … --to compressed-tensors",
        )
    if to == "awq":
        return (lambda name, one: of_awq(one, name)), awq_config(first, [name for name in dense if name != "lm_head"])
    second = any(one.low is not None for one in bases.values())
    settings = gptq_config(
        first,
        [name for name in dense if name != "lm_head"],
        symmetric=not second,
        moved=any(one.order is not None for one in bases.values()),
        second=second,
    )
    return (lambda name, one: of_gptq(one, name, second=second)), settings


def _compressed(weights: RoundedWeights) -> Parts:
    def parts(name: str, one: Rounded) -> dict[str, Tensor]:
        base = name.removesuffix(".weight")
        found = published(same(name, name), Kept(one, weights.activations(name)))
        return {key.removeprefix(base): tensor for key, tensor in found}

    return parts


def _eight_bits(name: str, one: Rounded) -> dict[str, Tensor]:
    return of_bitsandbytes(one, torch.arange(len(one.q)), name)


def _tensors(weights: RoundedWeights, parts: Parts) -> Iterator[tuple[str, Tensor]]:
    """All tensors of the result, one matrix at a time."""
    for name in weights.shapes():
        if not weights.is_rounded(name):
            yield name, weights.tensor(name).contiguous()
            continue
        rounded = weights.rounded(name)
        assert rounded is not None  # `_outline` has seen it
        for ending, tensor in parts(name, rounded).items():
            yield name.removesuffix(".weight") + ending, tensor.contiguous()
