"""AdamW (Kingma and Ba 2015; Loshchilov and Hutter 2019): PyTorch's own, fused.

One pass reads gradient, weight and both moments and writes the last three: 28 bytes a parameter and no temporaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from luhuo.kernels import fused
from luhuo.train.optimisers.groups import Group
from luhuo.train.pieces import local

BETAS = (0.9, 0.95)
EPSILON = 1e-10
"""Added to the root of the second moment; small, since rows of an embedding that are seen rarely have small ones."""


class AdamW:
    """m ← β₁·m + (1 - β₁)·g;  v ← β₂·v + (1 - β₂)·g²;  w ← (1 - η·λ)·w - η·m̂ / (√v̂ + ε)."""

    def __init__(
        self, groups: Sequence[Group], betas: tuple[float, float] | None = None, epsilon: float | None = None
    ) -> None:
        self.rates = [each.rate for each in groups]
        self.named = {name: p for each in groups for name, p in each.parameters.items()}
        # Processes may hold parts of the parameters, cut in different ways: one kernel moves what they hold.
        self.held = {name: nn.Parameter(local(p.detach())) for name, p in self.named.items()}
        self.names = {id(held): name for name, held in self.held.items()}
        settings = [
            {
                "params": [self.held[name] for name in each.parameters],
                "lr": each.rate,
                "weight_decay": each.decay,
            }
            for each in groups
        ]
        self.inner = torch.optim.AdamW(settings, betas=betas or BETAS, eps=epsilon or EPSILON, fused=True)
        self.tensors: dict[str, Tensor] = {}
        for name, p in self.named.items():  # there from the start, so that a checkpoint finds its place
            kept = {key: torch.zeros_like(p.detach()) for key in ("exp_avg", "exp_avg_sq")}
            kept["step"] = torch.zeros((), device=p.device)
            self.inner.state[self.held[name]] = {key: local(value) for key, value in kept.items()}
            self.tensors |= {f"{name}:{key}": value for key, value in kept.items()}

    def step(self, factor: float) -> None:
        """Move all parameters that have a gradient, at `factor` times the peak learning rates."""
        for settings, rate in zip(self.inner.param_groups, self.rates, strict=True):
            settings["lr"] = rate * factor
        halves = {name for name, p in self.named.items() if p.grad is not None and p.grad.dtype != p.dtype}
        for name, p in self.named.items():
            self.held[name].grad = None if p.grad is None or name in halves else local(p.grad)
        self.inner.step()
        self.inner.zero_grad(set_to_none=True)
        for settings in self.inner.param_groups:
            self._move_halves(settings, halves)

    @torch.no_grad()
    def _move_halves(self, settings: dict[str, Any], halves: set[str]) -> None:
        """The same step for parameters whose gradient is kept in bf16 (`train.half_gradients`)."""
        for name in halves.intersection(self.names[id(held)] for held in settings["params"]):
            gradient, state = self.named[name].grad, self.inner.state[self.held[name]]
            assert gradient is not None
            state["step"] += 1
            fused.adamw(
                self.held[name],
                gradient,
                (state["exp_avg"], state["exp_avg_sq"]),
                rate=settings["lr"],
                decay=settings["weight_decay"],
                betas=settings["betas"],
                epsilon=settings["eps"],
                step=int(state["step"]),
            )

    def state(self) -> dict[str, Tensor]:
        """Two fp32 moments a parameter, and how often it has moved."""
        return self.tensors
