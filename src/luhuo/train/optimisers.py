"""Optimisers and the parameter groups they work on.

| parameters                     | optimiser=muon | optimiser=adamw | weight decay |
| ------------------------------ | -------------- | --------------- | ------------ |
| matrices inside the blocks     | Muon           | AdamW           | yes          |
| embedding, untied unembedding  | AdamW          | AdamW           | no           |
| norms                          | AdamW          | AdamW           | no           |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from luhuo.model.decoder import Decoder
from luhuo.train.config import TrainerConfig

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration (Jordan et al. 2024, "Muon"): steep at zero, so five steps suffice."""


@dataclass(frozen=True)
class Groups:
    """Every trainable parameter, once, by name."""

    matrices: dict[str, nn.Parameter]
    others: dict[str, nn.Parameter]


def group(model: nn.Module) -> Groups:
    """Sort the trainable parameters; an assert holds that none is forgotten."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = {name: p for name, p in named.items() if p.ndim == 2 and "embedding" not in name}
    others = {name: p for name, p in named.items() if p.ndim == 1 or "embedding" in name}
    assert len(matrices) + len(others) == len(named), "a parameter belongs to no group or to two"
    return Groups(matrices, others)


class Optimiser:
    """AdamW, or Muon with AdamW, over named parameters."""

    def __init__(self, model: Decoder, config: TrainerConfig) -> None:
        self.groups = group(model)
        rate, decay = config.learning_rate, config.weight_decay
        plain = {"params": list(self.groups.others.values()), "lr": rate * config.embedding_rate, "weight_decay": 0.0}
        self.muon: Muon | None = None
        adam = [plain]
        if config.optimiser == "muon":
            self.muon = Muon(self.groups.matrices, model.config.qkv_rows, rate, decay)
        else:
            adam.append({"params": list(self.groups.matrices.values()), "lr": rate, "weight_decay": decay})
        self.adamw = torch.optim.AdamW(adam, betas=(0.9, 0.95), eps=1e-10, fused=True)
        self._rates = [g["lr"] for g in self.adamw.param_groups]

    def step(self, factor: float) -> None:
        """Move all parameters once, at `factor` times the peak learning rates."""
        for settings, rate in zip(self.adamw.param_groups, self._rates, strict=True):
            settings["lr"] = rate * factor
        self.adamw.step()
        if self.muon is not None:
            self.muon.step(factor)

    def state(self) -> dict[str, Tensor]:
        """All state as named tensors."""
        names: dict[Tensor, str] = {p: name for name, p in (self.groups.others | self.groups.matrices).items()}
        state = {f"{names[p]}:{key}": value for p, values in self.adamw.state.items() for key, value in values.items()}
        if self.muon is not None:
            state |= {f"{name}:momentum": value for name, value in self.muon.momentum.items()}
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        named = self.groups.others | self.groups.matrices
        for key, value in state.items():
            name, kind = key.rsplit(":", 1)
            if kind == "momentum" and self.muon is not None:
                self.muon.momentum[name].copy_(value)
            else:
                place = "cpu" if kind == "step" and named[name].device.type == "cpu" else named[name].device
                self.adamw.state[named[name]][kind] = value.clone().to(place)


class Muon:
    """Momentum, then the nearest orthogonal matrix as the update (Jordan et al. 2024).

    m ← β·m + g;  u ← orthogonalise(g + β·m);  w ← (1 - η·λ)·w - η·0.2·√max(rows, columns)·u
    The last factor gives u the root mean square of an AdamW step (Moonlight, Liu et al. 2025, section 2.2), so that
    one learning rate serves both. Fused projections are taken apart: query, key, value, gate and up are matrices of
    their own. Matrices of equal shape go through Newton-Schulz together.
    """

    def __init__(
        self,
        matrices: dict[str, nn.Parameter],
        qkv_rows: Sequence[int],
        learning_rate: float,
        weight_decay: float,
        beta: float = 0.95,
    ) -> None:
        self.matrices, self.learning_rate, self.weight_decay, self.beta = matrices, learning_rate, weight_decay, beta
        self.momentum = {name: torch.zeros_like(p) for name, p in matrices.items()}
        shapes: dict[tuple[int, int], list[tuple[str, int, int]]] = {}
        for name, p in matrices.items():
            start = 0
            for rows in _split(name, p, qkv_rows):
                shapes.setdefault((rows, p.shape[1]), []).append((name, start, start + rows))
                start += rows
        self._batches = shapes

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Update all matrices at `factor` times the learning rate."""
        rate = self.learning_rate * factor
        names = list(self.matrices)
        gradients = [self.matrices[name].grad for name in names]
        assert all(g is not None for g in gradients), "a matrix has no gradient"
        momenta = [self.momentum[name] for name in names]
        torch._foreach_mul_(momenta, self.beta)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_add_(momenta, gradients)  # type: ignore
        updates = torch._foreach_add(gradients, momenta, alpha=self.beta)  # type: ignore
        nesterov = dict(zip(names, updates, strict=True))
        torch._foreach_mul_(list(self.matrices.values()), 1 - rate * self.weight_decay)  # pyright: ignore[reportPrivateImportUsage]
        for (rows, columns), members in self._batches.items():
            stacked = torch.stack([nesterov[name][a:b] for name, a, b in members])
            moves = orthogonalise(stacked).to(stacked.dtype)
            scale = rate * 0.2 * max(rows, columns) ** 0.5
            targets = [self.matrices[name][a:b] for name, a, b in members]
            torch._foreach_add_(targets, list(moves.unbind()), alpha=-scale)  # pyright: ignore[reportPrivateImportUsage]


def _split(name: str, parameter: Tensor, qkv_rows: Sequence[int]) -> Sequence[int]:
    if name.endswith("qkv.weight"):
        return qkv_rows
    if name.endswith("gate_up.weight"):
        return (parameter.shape[0] // 2,) * 2
    return (parameter.shape[0],)


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Bring the singular values of (n, rows, columns) near 1 by Newton-Schulz iteration in bf16; returns bf16.

    X ← a·X + (b·XXᵀ + c·(XXᵀ)²)·X, on the wide orientation, starting from X / ‖X‖. Singular values end in 0.7 to 1.2.
    """
    a, b, c = QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16().contiguous()
    for _ in range(steps):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
