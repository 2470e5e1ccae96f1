"""AdaLoRA (Zhang et al. 2023): W + s · B diag(E) A, whose least important directions are removed while it trains.

B and A are kept near orthogonal by a penalty on the gradients, so that E is like singular values. The importance of a
direction is that of its number in E plus the mean of those of its row of A and column of B: |w · g|, smoothed over
steps, times the smoothed deviation. All matrices share one budget of directions, which falls with the cube of the
progress from the start rank to `rank` on average; at the end of that it is settled which stay.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from luhuo.adapter.adapter import Passes
from luhuo.adapter.config import AdapterConfig
from luhuo.adapter.matrices import MatrixMethod, Part
from luhuo.adapter.targets import Target
from luhuo.model.adaptable import Adaptable
from luhuo.model.base import LanguageModel

SMOOTHING = 0.85
"""Of importance and of its deviation, both."""
SPREAD = 0.02
"""Standard deviation of A and B at the start; E is zero."""
SCORED = ("a", "b", "e")


class Singular(Part):
    """A low-rank update in the form of a singular value decomposition."""

    def __init__(self, target: Target, rank: int, alpha: float, random: torch.Generator) -> None:
        super().__init__(target)
        self.a = nn.Parameter(torch.randn(rank, target.columns, generator=random) * SPREAD)
        self.b = nn.Parameter(torch.randn(len(target.rows), rank, generator=random) * SPREAD)
        self.e = nn.Parameter(torch.zeros(rank, 1))
        self.scale = alpha / (rank + 1e-5)
        self.register_buffer("alive", torch.ones(rank, dtype=torch.bool))
        for name in SCORED:
            like = getattr(self, name)
            self.register_buffer(f"importance_{name}", torch.zeros_like(like))
            self.register_buffer(f"deviation_{name}", torch.zeros_like(like))

    def forward(self, x: Tensor, y: Tensor, matrix: Adaptable) -> Tensor:
        low = F.linear(x, (self.a * self.e).to(x.dtype))
        return y + self.scale * F.linear(low, self.b.to(x.dtype))

    def merged(self, weight: Tensor) -> Tensor:
        return weight + self.scale * self.b @ (self.a * self.e)

    def published(self) -> dict[str, nn.Parameter | Tensor]:
        return {"lora_A": self.a, "lora_B": self.b, "lora_E": self.e}

    @torch.no_grad()
    def observe(self) -> None:
        """Take in the gradients of a step."""
        for name in SCORED:
            p = getattr(self, name)
            if p.grad is not None:
                now = (p * p.grad).abs()
                importance, deviation = self.get_buffer(f"importance_{name}"), self.get_buffer(f"deviation_{name}")
                importance.lerp_(now, 1 - SMOOTHING)
                deviation.lerp_((now - importance).abs(), 1 - SMOOTHING)

    def scores(self) -> Tensor:
        """Importance (rank,) of the directions."""
        of = {n: self.get_buffer(f"importance_{n}") * self.get_buffer(f"deviation_{n}") for n in SCORED}
        return of["e"][:, 0] + of["a"].mean(1) + of["b"].mean(0)


class Adalora(MatrixMethod):
    """Low-rank updates with one budget of directions for all."""

    peft_type = "ADALORA"

    def __init__(self, model: LanguageModel, config: AdapterConfig, seed: int) -> None:
        self.start = config.start_rank or -(-config.rank * 3 // 2)
        self.steps = 0
        super().__init__(model, config, seed)

    def part(self, target: Target, matrix: Adaptable, random: torch.Generator) -> Part:
        alpha = 2.0 * self.config.rank if self.config.alpha is None else self.config.alpha
        return Singular(target, self.start, alpha, random)

    def _parts(self) -> list[Singular]:
        return [part for part in self.parts if isinstance(part, Singular)]

    def begin(self, steps: int, passes: Passes | None) -> None:
        self.steps = steps

    @torch.no_grad()
    def after_backward(self, share: float) -> None:
        """Add the gradient of the mean of ‖A Aᵀ - 1‖ and ‖Bᵀ B - 1‖ over all matrices."""
        parts = self._parts()
        factor = share * self.config.orthogonality / (2 * len(parts))
        if not factor:
            return
        for part in parts:
            for p, tall in ((part.a, False), (part.b, True)):
                rows = p.T if tall else p
                off = rows @ rows.T - torch.eye(len(rows), device=p.device)
                slope = 2 * (off @ rows) / off.norm().clamp(min=1e-12)
                slope = slope.T if tall else slope
                p.grad = factor * slope if p.grad is None else p.grad.add_(slope, alpha=factor)

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        for part in self._parts():
            part.observe()
        budget = self.budget(step)
        if self.config.budget_from * self.steps <= step <= self.config.budget_to * self.steps:
            scores = [part.scores() for part in self._parts()]
            least = torch.cat(scores).sort(descending=True).values[budget - 1]
            for part, score in zip(self._parts(), scores, strict=True):
                part.get_buffer("alive").copy_(score >= least)
        for part in self._parts():
            part.e[~part.get_buffer("alive")] = 0

    def budget(self, step: int) -> int:
        """Directions that may stay after step `step`, from 0, over all matrices (equation 10 of the paper)."""
        most, least = self.start * len(self.parts), self.config.rank * len(self.parts)
        first, last = self.config.budget_from * self.steps, self.config.budget_to * self.steps
        if step < first:
            return most
        left = 1 - min(1.0, (step - first) / max(1.0, last - first))
        return max(1, round(least + (most - least) * left**3))

    def state(self) -> dict[str, Tensor]:
        return {
            f"{owner}.adapter.{name}": tensor
            for owner, adapter in self.on.items()
            for name, tensor in adapter.named_buffers()
        }

    def layout(self) -> dict[str, Any]:
        alpha = 2.0 * self.config.rank if self.config.alpha is None else self.config.alpha
        return super().layout() | {
            "r": self.start,
            "init_r": self.start,
            "target_r": self.config.rank,
            "lora_alpha": alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "total_step": max(1, self.steps),
            "tinit": 0,
            "tfinal": 0,
        }
