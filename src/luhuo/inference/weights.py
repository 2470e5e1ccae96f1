"""Taking over the weights of another model of the same shape."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.inference.runner import Writer
from luhuo.model.encoder import Encoder


@torch.no_grad()
def take_weights(model: Writer | Encoder, other: Writer) -> None:
    """Copy the weights of `other` into `model`. Raises `LuhuoError` if names or shapes differ."""
    ours, theirs = model.state_dict(), other.state_dict()
    wrong = [name for name in {*ours, *theirs} if _shape(ours, name) != _shape(theirs, name)]
    if wrong:
        name = min(wrong)
        raise LuhuoError(
            tr("These weights are of another model.", "这些权重属于另一个模型。"),
            expected=f"{name}: {_shape(ours, name)}",
            found=f"{name}: {_shape(theirs, name)}",
        )
    for name, tensor in ours.items():
        tensor.copy_(theirs[name])


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None
