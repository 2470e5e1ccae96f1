"""The policy as its sampler reads it: weights kept in the number format they are multiplied in."""

from __future__ import annotations

import copy

from torch import nn

from luhuo.adapter.attach import attached
from luhuo.model.decoder import Decoder
from luhuo.model.moe import Router
from luhuo.train.quantisation.rounding import roundings


def as_computed(model: Decoder) -> Decoder:
    """A copy of `model` whose parameters are kept as it computes, or `model` itself where they are, or an adapter is
    attached to it, or its matrices are rounded in training.

    Master weights in fp32 are rounded wherever bf16 products read them. A training pass does that once for thousands
    of tokens, a decoding step for a few: it would move eight bytes a weight where two suffice. Products are the same,
    for the rounding is. Routers choose experts in fp32 and keep their weights.
    """
    kept = {id(p) for module in model.modules() if isinstance(module, Router) for p in module.parameters()}
    lower = [p for p in model.parameters() if p.is_floating_point() and p.dtype != model.dtype and id(p) not in kept]
    if not lower or attached(model) is not None or roundings(model):
        return model
    rounded = {id(p): nn.Parameter(p.detach().to(model.dtype), requires_grad=False) for p in lower}
    return copy.deepcopy(model, memo=dict(rounded)).requires_grad_(False).eval()
