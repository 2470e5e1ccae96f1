"""DoRA (Liu et al. 2024): a low-rank update of the direction of each row of W, and a trained length for it.

W' = m · (W + s · B A) / ‖W + s · B A‖, norms by row. The norm is not differentiated (section 4.3 of the paper).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from luhuo.adapter.lora import Lora, LowRank, started
from luhuo.adapter.matrices import Part
from luhuo.adapter.targets import Target
from luhuo.model.adaptable import Adaptable

SHORTEST = 1e-6
"""A row of zeros has no direction: it stays what it is."""


class Directed(LowRank):
    """Low-rank update with lengths. The norms are kept until the factors change."""

    def __init__(self, target: Target, a: Tensor, b: Tensor, scale: float, weight: Tensor) -> None:
        super().__init__(target, a, b, scale)
        self.length = nn.Parameter(torch.linalg.vector_norm(weight, dim=1))
        self.known: tuple[tuple[int, ...], Tensor] | None = None

    def forward(self, x: Tensor, y: Tensor, matrix: Adaptable) -> Tensor:
        factor = (self.length / self._norms(matrix)).to(x.dtype)
        update = self.scale * F.linear(F.linear(x, self.a.to(x.dtype)), self.b.to(x.dtype))
        if matrix.bias is None:
            return factor * (y + update)
        bias = matrix.bias[self.target.place].to(x.dtype)
        return factor * (y - bias + update) + bias

    def merged(self, weight: Tensor) -> Tensor:
        found = super().merged(weight)
        return found * (self.length / torch.linalg.vector_norm(found, dim=1).clamp(min=SHORTEST))[:, None]

    def published(self) -> dict[str, nn.Parameter | Tensor]:
        return {**super().published(), "lora_magnitude_vector": self.length}

    @torch.no_grad()
    def _norms(self, matrix: Adaptable) -> Tensor:
        """Norms (rows,) of W + s · B A: of every dense matrix only these are needed, so none is made of B A.

        ‖w + s·bA‖² = ‖w‖² + 2 s·(w Aᵀ)·b + s²·b (A Aᵀ) bᵀ for each row.
        """
        state = (self.a._version, self.b._version, self.a.data_ptr(), self.b.data_ptr())
        if self.known is None or self.known[0] != state or torch.compiler.is_compiling():
            a, b, weight = self.a.float(), self.b.float(), matrix.dense(torch.float32)[self.target.place]
            square = weight.square().sum(1)
            square += 2 * self.scale * (weight @ a.T * b).sum(1) + self.scale**2 * (b @ (a @ a.T) * b).sum(1)
            self.known = state, square.clamp_(min=0).sqrt_().clamp_(min=SHORTEST)
        return self.known[1]


class Dora(Lora):
    """Low-rank updates of directions, and lengths."""

    def part(self, target: Target, matrix: Adaptable, random: torch.Generator) -> Part:
        weight = matrix.dense(torch.float32).detach()[target.place].cpu()
        a, b = started(target, None, self.config.rank, self.config.scale, "zero", random)
        return Directed(target, a, b, self.config.scale, weight)

    def after_step(self, step: int) -> None:
        for part in self.parts:
            assert isinstance(part, Directed)
            part.known = None

    def layout(self) -> dict[str, Any]:
        return super().layout() | {"use_dora": True}
