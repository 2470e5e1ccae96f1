"""Bottleneck adapters: h + up(gelu(down(h))) behind the projections back to the residual stream.

Behind attention and behind the feed-forward part (Houlsby et al. 2019), or behind the latter only (Pfeiffer et al.
2021). `up` starts at zero, so that the model begins as it was. What they do depends on their input in no linear way:
they cannot be merged.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from luhuo.adapter.adapter import Adapter
from luhuo.adapter.matrices import MatrixMethod, Part
from luhuo.adapter.targets import Target
from luhuo.model.adaptable import Adaptable


class Bottleneck(Part):
    """Two small layers behind a matrix."""

    def __init__(self, target: Target, width: int, random: torch.Generator) -> None:
        super().__init__(target)
        rows = len(target.rows)
        self.down = nn.Parameter(torch.rand(width, rows, generator=random).mul_(2).sub_(1) / math.sqrt(rows))
        self.down_bias = nn.Parameter(torch.zeros(width))
        self.up = nn.Parameter(torch.zeros(rows, width))
        self.up_bias = nn.Parameter(torch.zeros(rows))

    def forward(self, x: Tensor, y: Tensor, matrix: Adaptable) -> Tensor:
        inner = F.gelu(F.linear(y, self.down.to(y.dtype), self.down_bias.to(y.dtype)))
        return y + F.linear(inner, self.up.to(y.dtype), self.up_bias.to(y.dtype))

    def merged(self, weight: Tensor) -> Tensor:
        raise AssertionError("a bottleneck is no matrix")

    def published(self) -> dict[str, nn.Parameter | Tensor]:
        return {
            "adapter_down.weight": self.down,
            "adapter_down.bias": self.down_bias,
            "adapter_up.weight": self.up,
            "adapter_up.bias": self.up_bias,
        }


class Pfeiffer(MatrixMethod):
    """A bottleneck behind each feed-forward part."""

    merge = Adapter.merge

    @staticmethod
    def suits(target: Target) -> bool:
        return target.owner.endswith("mlp.down")

    def part(self, target: Target, matrix: Adaptable, random: torch.Generator) -> Part:
        return Bottleneck(target, self.config.rank, random)

    def layout(self) -> dict[str, Any]:
        return super().layout() | {"r": self.config.rank}


class Houlsby(Pfeiffer):
    """A bottleneck behind each attention and each feed-forward part."""

    @staticmethod
    def suits(target: Target) -> bool:
        return target.owner.endswith(("mlp.down", "attention.out"))
