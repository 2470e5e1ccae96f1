"""(IA)³ (Liu et al. 2022): keys, values and the inner activations of the feed-forward part are scaled by vectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from luhuo.adapter.matrices import MatrixMethod, Part
from luhuo.adapter.targets import Target, told_apart
from luhuo.model.adaptable import Adaptable

KEYS_AND_VALUES = ("k_proj", "v_proj", "key", "value", "query_key_value", "c_attn", "qkv_proj", "W_pack", "wqkv")
"""What they are called in published models; where one matrix holds queries too, all of it is scaled."""


class Scale(Part):
    """A factor on each output, or (`inputs`) on each input of a matrix."""

    def __init__(self, target: Target, *, inputs: bool) -> None:
        super().__init__(target)
        self.inputs = inputs
        self.factor = nn.Parameter(torch.ones((1, target.columns) if inputs else (len(target.rows), 1)))

    def before(self, x: Tensor) -> Tensor:
        return x * self.factor.flatten().to(x.dtype) if self.inputs else x

    def forward(self, x: Tensor, y: Tensor, matrix: Adaptable) -> Tensor:
        return y if self.inputs else y * self.factor.flatten().to(y.dtype)

    def merged(self, weight: Tensor) -> Tensor:
        return weight * self.factor

    def published(self) -> dict[str, nn.Parameter | Tensor]:
        return {"ia3_l": self.factor}


class IA3(MatrixMethod):
    """Factors on activations. Merged, a bias of a scaled output is scaled too."""

    peft_type = "IA3"
    rate = 30.0

    @staticmethod
    def suits(target: Target) -> bool:
        return target.owner.endswith("mlp.down") or target.kind in KEYS_AND_VALUES

    def part(self, target: Target, matrix: Adaptable, random: torch.Generator) -> Part:
        return Scale(target, inputs=target.owner.endswith("mlp.down"))

    def merge(self) -> Any:
        biased = [
            part.target.owner
            for part in self.parts
            if isinstance(part, Scale) and not part.inputs and self.matrix(part.target.owner).bias is not None
        ]
        undo = super().merge()
        before: dict[str, Tensor] = {}
        for part in self.parts:
            owner = part.target.owner
            if owner in biased and isinstance(part, Scale):
                bias = self.matrix(owner).bias
                assert bias is not None
                before.setdefault(owner, bias.data)
                scaled = bias.data.clone()
                scaled[part.target.place] *= part.factor.detach().flatten().to(scaled.dtype)
                bias.data = scaled

        def undo_all() -> None:
            for owner, data in before.items():
                self.matrix(owner).bias.data = data  # type: ignore[union-attr]
            undo()

        return undo_all

    def layout(self) -> dict[str, Any]:
        inner = [part.target for part in self.parts if isinstance(part, Scale) and part.inputs]
        outer = [part.target for part in self.parts if isinstance(part, Scale) and not part.inputs]
        names = [told_apart(self.model, some, ()) for some in (inner, outer)]  # peft's IA3 knows of no layers
        feedforward, others = (set(found.values()) for found in names)
        return super().layout() | {
            "target_modules": sorted(feedforward | others),
            "feedforward_modules": sorted(feedforward),
            "init_ia3_weights": True,
        }
