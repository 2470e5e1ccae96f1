"""DyLoRA (Valipour et al. 2022): each step trains only the first b directions of a LoRA, b drawn at random.

So the directions are ordered, and after one training every smaller rank can be used: `cut`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.adapter.config import AdapterConfig
from luhuo.adapter.lora import Lora, LowRank, started
from luhuo.adapter.matrices import Part
from luhuo.adapter.targets import Target
from luhuo.core.seeds import derive_seed
from luhuo.model.adaptable import Adaptable
from luhuo.model.base import LanguageModel


class Nested(LowRank):
    """A low-rank update of which the first `used` directions count."""

    used = 0

    @property
    def factors(self) -> tuple[Tensor, Tensor]:
        return self.a[: self.used], self.b[:, : self.used]

    def forward(self, x: Tensor, y: Tensor, matrix: Adaptable) -> Tensor:
        used = self.used if self.training else len(self.a)
        low = F.linear(x, self.a[:used].to(x.dtype))
        return y + self.scale * F.linear(low, self.b[:, :used].to(x.dtype))

    def merged(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.b @ self.a)

    def published(self) -> dict[str, Tensor]:
        return {"lora_A.weight": self.a, "lora_B.weight": self.b}


class Dylora(Lora):
    """Nested low-rank updates. All processes draw the same rank in a step."""

    def __init__(self, model: LanguageModel, config: AdapterConfig, seed: int) -> None:
        self.seed = seed
        super().__init__(model, config, seed)

    def part(self, target: Target, matrix: Adaptable, random: torch.Generator) -> Part:
        a, b = started(target, None, self.config.rank, self.config.scale, "zero", random)
        part = Nested(target, a, b, self.config.scale)
        part.used = self.config.rank
        return part

    def before_step(self, step: int) -> None:
        used = 1 + derive_seed(self.seed, "dylora", step) % self.config.rank
        for part in self.parts:
            assert isinstance(part, Nested)
            part.used = used

    @torch.no_grad()
    def cut(self, rank: int) -> None:
        """Use the first `rank` directions from now on: the others become zero."""
        for part in self.parts:
            assert isinstance(part, Nested)
            part.b[:, rank:] = 0
