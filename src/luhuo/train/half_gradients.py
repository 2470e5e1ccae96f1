"""Gradients of matrices that stay in bf16, the format they are computed in, until the optimiser has used them.

A product in bf16 gives its weight's gradient in bf16; as fp32 it says nothing more and takes twice the memory: 425 MB
instead of 212 for the 106 million of SmolLM2-135M's blocks. Where several passes are summed, over micro-batches or
processes, fp32 is needed and taken.
"""

from __future__ import annotations

import torch
from torch import nn

from luhuo.kernels import fused
from luhuo.model.decoder import Decoder
from luhuo.model.layers import Linear

HALVES = ("adamw", "muon")
"""Optimisers that take such gradients."""


def matrices(model: nn.Module, optimiser: str) -> list[nn.Parameter]:
    """The parameters this holds for: used once a pass, by products that compute in bf16 on a CPU."""
    if not isinstance(model, Decoder) or model.config.query_block:  # whose last projection is used twice a pass
        return []
    ours = model.dtype == torch.bfloat16 and model.device.type == "cpu" and optimiser in HALVES
    if not ours or not fused.usable(torch.empty(0, dtype=torch.bfloat16)):
        return []
    layers = [module for module in model.blocks.modules() if isinstance(module, Linear) and module.bias is None]
    found = [layer.weight for layer in layers if layer.weight.requires_grad]
    return [weight for weight in found if type(weight) is nn.Parameter and weight.dtype == torch.float32]


def keep_half(parameters: list[nn.Parameter], *, half: bool) -> None:
    """Say in which format the next passes leave the gradients of these; they must have none yet."""
    for parameter in parameters:
        parameter.grad_dtype = torch.bfloat16 if half else torch.float32
