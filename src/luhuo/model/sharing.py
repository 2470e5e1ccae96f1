"""Layers that share their weights (Lan et al. 2020, "ALBERT"): several blocks around the very same parameters.

`ModelConfig.shared_layers` says for each layer whose weights it uses. The model is published with all layers written
out, so that every program loads it; only config.json has one more key, by which it is tied again here. A parameter
that several blocks hold is trained, counted and kept in a checkpoint once.
"""

from __future__ import annotations

from torch import nn

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.decoder import Decoder


def tie(model: Decoder) -> None:
    """Give each layer the parameters of the one whose weights it shares. Raises `LuhuoError` if they do not fit."""
    for layer, source in enumerate(model.config.shared_layers):
        if layer == source:
            continue
        ours, theirs = model.blocks[layer], model.blocks[source]
        if not alike(ours, theirs):
            raise LuhuoError(
                tr("Layers of different kinds cannot share weights.", "不同类型的层不能共享权重。"),
                found=f"{source}, {layer}",
                where="shared_layers",
            )
        modules = dict(theirs.named_modules())
        for name, module in ours.named_modules():
            module._parameters.update(modules[name]._parameters)


def alike(one: nn.Module, other: nn.Module) -> bool:
    """Whether two blocks have parameters of the same names and shapes."""
    mine, theirs = ({name: p.shape for name, p in block.named_parameters()} for block in (one, other))
    return mine == theirs
