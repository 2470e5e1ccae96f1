"""Layer sharing: which layers of a decoder use the same weights, and what these begin as.

Lan et al. 2020 ("ALBERT", section 3.1) train with one layer's weights for all; Takase & Kiyono 2021 ("Lessons on
Parameter Sharing across Layers") compare runs of neighbours ("sequence") with cycles. Of a trained model the nearest
neighbours are merged first here (average linkage over the relative distance of their matrices).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from luhuo.compress.opened import open_stored
from luhuo.core.atomic import write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.model.count_stack import total
from luhuo.model.decoder import Decoder
from luhuo.model.save import save
from luhuo.model.sharing import alike, tie

if TYPE_CHECKING:
    from luhuo.compress.layer_sharing_stage import ShareLayersStage
    from luhuo.core.artifact import Workspace

Groups = list[list[int]]
"""Layers that share their weights, each group in order."""


def neighbours(layers: list[int], count: int) -> Groups:
    """`count` runs of layers, as even as can be."""
    borders = [round(i * len(layers) / count) for i in range(count + 1)]
    return [layers[start:end] for start, end in pairwise(borders)]


def cycle(layers: list[int], count: int) -> Groups:
    """Layer i with layers i + count, i + 2 count, …"""
    return [layers[start::count] for start in range(count)]


def similar(layers: list[int], count: int, distances: torch.Tensor) -> Groups:
    """`count` runs of neighbours: of two runs side by side those are merged next whose layers are nearest on average.

    `distances` (layers, layers); infinite between layers of different kinds.
    """
    groups = [[layer] for layer in layers]
    while len(groups) > count:
        costs = [float(distances[a][:, b].mean()) for a, b in pairwise(groups)]
        best = min(range(len(costs)), key=costs.__getitem__)
        groups[best : best + 2] = [groups[best] + groups[best + 1]]
    return groups


@torch.no_grad()
def distances(model: Decoder) -> torch.Tensor:
    """‖W_i - W_j‖² over ‖W_i‖² + ‖W_j‖², the mean over a layer's matrices (layers, layers) float64: 0 for equal ones,
    about 1 for independent ones."""
    blocks = list(model.blocks)
    found = torch.zeros(len(blocks), len(blocks), dtype=torch.float64)
    for i, one in enumerate(blocks):
        for j, other in enumerate(blocks[:i]):
            pairs = zip(one.parameters(), other.parameters(), strict=False)
            value = torch.tensor(torch.inf)
            if alike(one, other):
                parts = [
                    (a - b).double().square().sum() / (a.double().square().sum() + b.double().square().sum())
                    for a, b in pairs
                    if a.ndim > 1
                ]
                value = torch.stack(parts).mean()
            found[i, j] = found[j, i] = value
    return found


def grouped(model: Decoder, stage: ShareLayersStage) -> Groups:
    """The groups that a stage asks for. Raises `LuhuoError` for more weights than layers."""
    layers = list(range(model.config.layers))
    alone = [[layers[0]], [layers[-1]]] if stage.ends else []
    inner = layers[1:-1] if stage.ends else layers
    count = stage.weights - len(alone)
    if not 0 < count < len(inner):
        raise LuhuoError(
            tr("So many layers' weights are not possible.", "保留的层权重数不可行。"),
            expected=f"{len(alone) + 1} … {len(layers) - 1}",
            found=stage.weights,
            where="weights",
        )
    if stage.pattern == "similar":
        groups = similar(inner, count, distances(model))
    else:
        groups = (neighbours if stage.pattern == "neighbours" else cycle)(inner, count)
    return sorted([*groups, *alone])


@torch.no_grad()
def share(model: Decoder, groups: Groups, start: str) -> None:
    """Let the layers of each group share their weights, beginning as their mean or as the first's.

    Raises `LuhuoError` for layers of different kinds.
    """
    sources = [0] * model.config.layers
    for group in groups:
        for layer in group:
            sources[layer] = group[0]
    before = [dict(block.named_parameters()) for block in model.blocks]
    model.config = model.config.model_copy(update={"shared_layers": tuple(sources)})
    tie(model)
    if start == "mean":
        for group in groups:
            for name, parameter in before[group[0]].items():
                parameter.copy_(torch.stack([before[layer][name].float() for layer in group]).mean(0))


def share_stage(stage: ShareLayersStage, out: Workspace) -> None:
    """What the stage `share-layers` does."""
    model, stored = open_stored(stage.model)
    before = total(model.config)
    groups = grouped(model, stage)
    share(model, groups, stage.start)
    save(model, out.path, dtype=stored)
    write_json(out.path / "sharing.json", {"groups": groups, "start": stage.start})
    after = total(model.config)
    out.results |= {"parameters_before": before, "parameters": after, "weights": len(groups)}
    told = "; ".join(" ".join(str(layer + 1) for layer in group) for group in groups)
    say(
        tr(
            f"{before:,} parameters became {after:,}; layers with the same weights: {told}",
            f"参数由 {before:,} 减至 {after:,}；共用权重的层：{told}",
        )
    )
