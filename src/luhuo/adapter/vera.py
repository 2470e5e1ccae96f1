"""VeRA (Kopiczko et al. 2023): one pair of random matrices for all layers, and two trained vectors for each.

y + λ_b · B (λ_d · A x), with A and B cut to the shape of each matrix. A and B are saved too: another program need not
have the same random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from luhuo.adapter.config import AdapterConfig
from luhuo.adapter.matrices import MatrixMethod, Part, fill
from luhuo.adapter.targets import Target
from luhuo.core.seeds import derive_seed
from luhuo.model.adaptable import Adaptable
from luhuo.model.base import LanguageModel

START = 0.1
"""Of λ_d; λ_b starts at zero."""
SHARED = ("vera_A", "vera_B")


class Pair:
    """The shared matrices A (rank, most columns) and B (most rows, rank): one copy, on the device it was used on."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    def cut(self, target: Target, device: torch.device) -> tuple[Tensor, Tensor]:
        """A and B in the shape of a matrix."""
        if self.tensors["vera_A"].device != device:
            self.tensors = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        return self.tensors["vera_A"][:, : target.columns], self.tensors["vera_B"][: len(target.rows)]


class Scaled(Part):
    """The two vectors of one matrix, and the pair they scale."""

    def __init__(self, target: Target, rank: int, pair: Pair) -> None:
        super().__init__(target)
        self.inner = nn.Parameter(torch.full((rank,), START))
        self.outer = nn.Parameter(torch.zeros(len(target.rows)))
        self.pair = pair

    def _pair(self) -> tuple[Tensor, Tensor]:
        return self.pair.cut(self.target, self.inner.device)

    def forward(self, x: Tensor, y: Tensor, matrix: Adaptable) -> Tensor:
        a, b = self._pair()
        low = F.linear(x, a.to(x.dtype)) * self.inner.to(x.dtype)
        return y + F.linear(low, b.to(x.dtype)) * self.outer.to(x.dtype)

    def merged(self, weight: Tensor) -> Tensor:
        a, b = self._pair()
        return weight + self.outer[:, None] * b @ (self.inner[:, None] * a)

    def published(self) -> dict[str, nn.Parameter | Tensor]:
        return {"vera_lambda_b": self.outer, "vera_lambda_d": self.inner}


class Vera(MatrixMethod):
    """Vectors on a shared random pair."""

    peft_type = "VERA"
    rate = 100.0  # ten times LoRA's, as in the paper's experiments (appendix A)

    def __init__(self, model: LanguageModel, config: AdapterConfig, seed: int) -> None:
        self.seed = seed
        self.pair = Pair()
        super().__init__(model, config, seed)
        columns, rows = (max(sizes) for sizes in zip(*(_shape(part.target) for part in self.parts), strict=True))
        random = torch.Generator().manual_seed(derive_seed(seed, "vera"))
        shapes = {"vera_A": (config.rank, columns), "vera_B": (rows, config.rank)}
        for name, shape in shapes.items():
            pair = torch.rand(shape, generator=random).mul_(2).sub_(1) / math.sqrt(shape[1])
            self.pair.tensors[name] = pair

    def part(self, target: Target, matrix: Adaptable, random: torch.Generator) -> Part:
        return Scaled(target, self.config.rank, self.pair)

    def state(self) -> dict[str, Tensor]:
        return self.pair.tensors

    def tensors(self) -> dict[str, Tensor]:
        return super().tensors() | self.pair.tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        fill(self.pair.tensors, {name: tensors[name] for name in SHARED if name in tensors})
        super().load({name: tensor for name, tensor in tensors.items() if name not in SHARED})

    def layout(self) -> dict[str, Any]:
        return super().layout() | {
            "r": self.config.rank,
            "projection_prng_key": self.seed % 2**31,
            "save_projection": True,
            "vera_dropout": 0.0,
            "d_initial": START,
            "bias": "none",
        }


def _shape(target: Target) -> tuple[int, int]:
    return target.columns, len(target.rows)
