"""Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2): the sign of a momentum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from luhuo.train.optimisers.chunks import chunks
from luhuo.train.optimisers.groups import Group
from luhuo.train.pieces import local

BETAS = (0.9, 0.99)


class Lion:
    """u ← sign(β₁·m + (1 - β₁)·g);  w ← (1 - η·λ)·w - η·u;  m ← β₂·m + (1 - β₂)·g."""

    def __init__(self, groups: Sequence[Group], betas: tuple[float, float] | None = None) -> None:
        self.groups, self.betas = groups, betas or BETAS
        self.momentum = {name: torch.zeros_like(p.detach()) for each in groups for name, p in each.parameters.items()}

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Move all parameters that have a gradient, at `factor` times the peak learning rates."""
        for each in self.groups:
            rate = each.rate * factor
            for name, p in each.parameters.items():
                if p.grad is None:
                    continue
                tensors = [local(tensor) for tensor in (p.detach(), p.grad, self.momentum[name])]
                for weight, gradient, momentum in chunks(tensors):
                    move_by_sign(weight, gradient, momentum, self.betas, rate, each.decay)

    def state(self) -> dict[str, Tensor]:
        """One fp32 momentum a parameter."""
        return {f"{name}:lion": value for name, value in self.momentum.items()}


def move_by_sign(
    weight: Tensor, gradient: Tensor, momentum: Tensor, betas: tuple[float, float], rate: float, decay: float
) -> None:
    """One step of Lion on a piece of a parameter, in place."""
    direction = torch.lerp(gradient, momentum, betas[0]).sign_()
    weight.mul_(1 - rate * decay).sub_(direction, alpha=rate)
    momentum.lerp_(gradient, 1 - betas[1])
