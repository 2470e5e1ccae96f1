"""LoRA (Hu et al. 2021): W + s · B A, with A (rank, columns) and B (rows, rank) trained and W frozen.

Variants: s = alpha / √rank (rsLoRA, Kalajdzievski 2023), a larger learning rate for B (LoRA+, Hayou et al. 2024), and
factors that begin as the principal directions of W (PiSSA, Meng et al. 2024) or as those of its QR decomposition
(OLoRA, Büyükakyüz 2024). There is no dropout: a policy's log-probabilities must be those it sampled with, and equal
for any split into micro-batches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from luhuo.adapter.adapter import TrainedGroup
from luhuo.adapter.matrices import MatrixMethod, Part
from luhuo.adapter.targets import Target
from luhuo.core.language import tr
from luhuo.model.adaptable import Adaptable


class LowRank(Part):
    """W + s · B A. `first`, if given, are the factors at the start, whose product is taken off again: the model then
    begins as it was, and its weights are never touched (PiSSA and OLoRA put the rest of W there instead)."""

    def __init__(self, target: Target, a: Tensor, b: Tensor, scale: float, *, fixed: bool = False) -> None:
        super().__init__(target)
        self.a, self.b, self.scale = nn.Parameter(a), nn.Parameter(b), scale
        self.first_a: Tensor | None
        self.first_b: Tensor | None
        self.register_buffer("first_a", a.clone() if fixed else None)
        self.register_buffer("first_b", b.clone() if fixed else None)

    @property
    def factors(self) -> tuple[Tensor, Tensor]:
        """A and B of the whole update: those of the start are further columns, with the other sign."""
        if self.first_a is None or self.first_b is None:
            return self.a, self.b
        return torch.cat([self.a, self.first_a]), torch.cat([self.b, -self.first_b], 1)

    def forward(self, x: Tensor, y: Tensor, matrix: Adaptable) -> Tensor:
        a, b = self.factors
        return y + self.scale * F.linear(F.linear(x, a.to(x.dtype)), b.to(x.dtype))

    def merged(self, weight: Tensor) -> Tensor:
        a, b = self.factors
        return weight + self.scale * (b @ a)

    def published(self) -> dict[str, nn.Parameter | Tensor]:
        a, b = self.factors
        return {"lora_A.weight": a, "lora_B.weight": b}


def started(
    target: Target, weight: Tensor | None, rank: int, scale: float, init: str, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A (rank, columns) and B (rows, rank) at the start: fp32 on the CPU.

    "zero": A uniform within 1 / √columns, B zero. "pissa" and "olora" take them from `weight` (rows, columns), such
    that `scale` · B A is a part of it.
    """
    rows, columns = len(target.rows), target.columns
    if weight is None:
        a = torch.rand(rank, columns, generator=random).mul_(2).sub_(1) / math.sqrt(columns)
        return a, torch.zeros(rows, rank)
    if init == "olora":
        q, r = torch.linalg.qr(weight.float())
        a, b = r[:rank], q[:, :rank]
    else:
        u, s, v = torch.linalg.svd(weight.float(), full_matrices=False)
        root = (s[:rank] / scale).sqrt()
        a, b = root[:, None] * v[:rank], u[:, :rank] * root
    short = rank - len(a)  # a matrix has no more directions than its shorter side
    return F.pad(a, (0, 0, 0, short)).contiguous(), F.pad(b, (0, short)).contiguous()


class Lora(MatrixMethod):
    """Low-rank updates."""

    peft_type = "LORA"

    def part(self, target: Target, matrix: Adaptable, random: torch.Generator) -> Part:
        init = self.config.init
        weight = None if init == "zero" else matrix.dense(torch.float32).detach()[target.place].cpu()
        a, b = started(target, weight, self.config.rank, self.config.scale, init, random)
        return LowRank(target, a, b, self.config.scale, fixed=init != "zero")

    def groups(self) -> list[TrainedGroup]:
        if self.config.lora_plus == 1:
            return super().groups()
        ends: dict[Literal["a", "b"], dict[str, nn.Parameter]] = {"a": {}, "b": {}}
        for name, p in self.own().items():
            ends["b" if name.endswith(".b") else "a"][name] = p
        ratio = self.config.lora_plus
        why = tr("an adapter starts near zero: larger steps", "适配器自零附近起步：步子更大")
        told = tr(f"at the output: LoRA+, times {ratio:g}", f"输出侧：LoRA+，乘 {ratio:g}")
        return [
            TrainedGroup("adapter", ends["a"], self.factor, why),
            TrainedGroup("adapter_out", ends["b"], self.factor * ratio, told),
        ]

    def state(self) -> dict[str, Tensor]:
        return {
            f"{owner}.adapter.{name}": tensor
            for owner, adapter in self.on.items()
            for name, tensor in adapter.named_buffers()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        assert self.config.init == "zero", "what is saved is a plain LoRA, whatever it began as"
        super().load(tensors)

    def layout(self) -> dict[str, Any]:
        times = 1 if self.config.init == "zero" else 2
        rank = self.config.rank * times
        alpha = self.config.scale * (rank**0.5 if self.config.rslora else rank)
        return super().layout() | {
            "r": rank,
            "lora_alpha": alpha,
            "use_rslora": self.config.rslora,
            "lora_dropout": 0.0,
            "bias": "none",
            "init_lora_weights": True,
        }
