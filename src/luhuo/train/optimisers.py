"""Optimisers and the parameter groups they work on.

| parameters                               | optimiser=muon | optimiser=adamw | weight decay | learning rate     |
| ---------------------------------------- | -------------- | --------------- | ------------ | ----------------- |
| matrices in the blocks, also of experts  | Muon           | AdamW           | yes          | `learning_rate`   |
| routers, gates of shared experts         | AdamW          | AdamW           | no           | `learning_rate`   |
| embeddings, unembedding, positions       | AdamW          | AdamW           | no           | · `embedding_rate` |
| norms, biases, sinks                     | AdamW          | AdamW           | no           | · `embedding_rate` |

A router's rows are one vector for each expert, like an embedding's: they are not orthogonalised.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.train.checkpoint import Saved
from luhuo.train.config import TrainerConfig
from luhuo.train.pieces import gathered, local, piece, shared_out

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration (Jordan et al. 2024, "Muon"): steep at zero, so five steps suffice."""


ROUTERS = ("router", "shared_gate")
TABLES = ("embedding", "unembedding", "embedding_in", "embedding_out", "positions")


@dataclass(frozen=True)
class Groups:
    """Every trainable parameter, once, by name."""

    matrices: dict[str, nn.Parameter]
    """(rows, columns), or (experts, rows, columns)."""
    routers: dict[str, nn.Parameter]
    others: dict[str, nn.Parameter]

    def all(self) -> dict[str, nn.Parameter]:
        """All groups."""
        return self.others | self.routers | self.matrices


def group(model: nn.Module) -> Groups:
    """Sort the trainable parameters; an assert holds that none is forgotten and none is in two groups."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    routers = {name: p for name, p in named.items() if p.ndim > 1 and _kind(name) in ROUTERS}
    others = {name: p for name, p in named.items() if p.ndim == 1 or _is_table_or_norm(_kind(name))}
    matrices = {name: p for name, p in named.items() if name not in routers and name not in others}
    found = Groups(matrices, routers, others)
    assert found.all().keys() == named.keys(), "a parameter belongs to no group"
    assert len(matrices) + len(routers) + len(others) == len(named), "a parameter belongs to two groups"
    assert all(p.ndim in (2, 3) for p in matrices.values()), "a matrix has more than a stack's dimensions"
    return found


def _kind(name: str) -> str:
    """What a parameter is called in its layer: `blocks.0.attention.out.weight` is an `out`."""
    return name.removesuffix(".weight").rsplit(".", 1)[-1]


def _is_table_or_norm(kind: str) -> bool:
    return kind in TABLES or kind.endswith(("norm", "bias"))


class Optimiser:
    """AdamW, or Muon with AdamW, over named parameters."""

    def __init__(self, model: Decoder, config: TrainerConfig) -> None:
        self.groups = group(model)
        rate, decay = config.learning_rate, config.weight_decay
        adam = [
            {"params": list(self.groups.others.values()), "lr": rate * config.embedding_rate, "weight_decay": 0.0},
            {"params": list(self.groups.routers.values()), "lr": rate, "weight_decay": 0.0},
        ]
        self.muon: Muon | None = None
        if config.optimiser == "muon":
            self.muon = Muon(self.groups.matrices, fused_rows(model.config), rate, decay)
        else:
            adam.append({"params": list(self.groups.matrices.values()), "lr": rate, "weight_decay": decay})
        adam = [settings for settings in adam if settings["params"]]
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
        names: dict[Tensor, str] = {p: name for name, p in self.groups.all().items()}
        state = {f"{names[p]}:{key}": value for p, values in self.adamw.state.items() for key, value in values.items()}
        if self.muon is not None:
            state |= {f"{name}:momentum": value for name, value in self.muon.momentum.items()}
        return state

    def restore(self, found: Saved) -> None:
        """Take back what `state` gave, from the part "optimiser" of a checkpoint."""
        named = self.groups.all()
        for key in found.names("optimiser"):
            name, kind = key.rsplit(":", 1)
            if kind == "momentum" and self.muon is not None:
                target = self.muon.momentum[name]
            elif kind == "step":
                target = self.adamw.state[named[name]][kind] = torch.zeros((), device=named[name].device)
            else:
                target = self.adamw.state[named[name]][kind] = torch.zeros_like(named[name], requires_grad=False)
            found.load_into("optimiser", key, target)


class Muon:
    """Momentum, then the nearest orthogonal matrix as the update (Jordan et al. 2024).

    m ← β·m + g;  u ← orthogonalise(g + β·m);  w ← (1 - η·λ)·w - η·0.2·√max(rows, columns)·u
    The last factor gives u the root mean square of an AdamW step (Moonlight, Liu et al. 2025, section 2.2), so that
    one learning rate serves both. Fused projections are taken apart: query, key, value, gate and up are matrices of
    their own, and so is each expert's. Matrices of equal shape go through Newton-Schulz together.
    """

    def __init__(
        self,
        matrices: dict[str, nn.Parameter],
        fused: Mapping[str, Sequence[int]],
        learning_rate: float,
        weight_decay: float,
        beta: float = 0.95,
    ) -> None:
        self.matrices, self.learning_rate, self.weight_decay, self.beta = matrices, learning_rate, weight_decay, beta
        self.momentum = {name: torch.zeros_like(p) for name, p in matrices.items()}
        self._alike: dict[tuple[torch.Size, Sequence[int]], list[str]] = {}
        for name, p in matrices.items():
            self._alike.setdefault((p.shape, tuple(_split(name, p, fused))), []).append(name)

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Update all matrices at `factor` times the learning rate."""
        rate = self.learning_rate * factor
        names = list(self.matrices)
        gradients = [local(p.grad) for p in self.matrices.values() if p.grad is not None]
        assert len(gradients) == len(names), "a matrix has no gradient"
        momenta = [local(self.momentum[name]) for name in names]
        torch._foreach_mul_(momenta, self.beta)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_add_(momenta, gradients)  # pyright: ignore[reportPrivateImportUsage]
        updates = torch._foreach_add(gradients, momenta, alpha=self.beta)  # pyright: ignore[reportPrivateImportUsage]
        nesterov = dict(zip(names, updates, strict=True))
        held = {name: local(p.detach()) for name, p in self.matrices.items()}
        torch._foreach_mul_(list(held.values()), 1 - rate * self.weight_decay)  # pyright: ignore[reportPrivateImportUsage]
        for (_, split), alike in self._alike.items():
            found = self._directions([gathered(nesterov[name], self.matrices[name]) for name in alike], split)
            moves = [piece(move, self.matrices[name]) for move, name in zip(found, alike, strict=True)]
            torch._foreach_add_([held[name] for name in alike], moves, alpha=-rate)  # pyright: ignore[reportPrivateImportUsage]

    @staticmethod
    def _directions(matrices: list[Tensor], split: Sequence[int]) -> list[Tensor]:
        """Orthogonalised and scaled, for matrices of one shape (or stacks of them) that are taken apart alike."""
        columns = matrices[0].shape[-1]
        borders = list(itertools.accumulate(split, initial=0))
        moves = [torch.empty_like(matrix) for matrix in matrices]
        for rows in dict.fromkeys(split):
            places = [a for a, size in zip(borders, split, strict=False) if size == rows]
            parts = [m[..., a : a + rows, :].reshape(-1, rows, columns) for m in matrices for a in places]
            done = shared_out(torch.cat(parts), orthogonalise).to(parts[0].dtype)
            done = done.mul_(0.2 * max(rows, columns) ** 0.5).split([len(part) for part in parts])
            targets = [move[..., a : a + rows, :] for move in moves for a in places]
            for target, direction in zip(targets, done, strict=True):
                target.copy_(direction.view(target.shape))
        return moves


def fused_rows(config: ModelConfig) -> dict[str, Sequence[int]]:
    """Rows of the matrices inside a fused projection, by the end of its name."""
    rows: dict[str, Sequence[int]] = {"qkv.weight": config.qkv_rows}
    if config.mla:
        rows["kv_down.weight"] = (config.mla.kv_rank, config.mla.rope_dim)
    if config.linear_layers:
        rows["linear_qkv.weight"] = (config.heads * config.head_dim,) * 3
    return rows


def _split(name: str, parameter: Tensor, fused: Mapping[str, Sequence[int]]) -> Sequence[int]:
    if _kind(name) == "gate_up":
        return (parameter.shape[-2] // 2,) * 2
    return next((rows for end, rows in fused.items() if name.endswith(end)), (parameter.shape[-2],))


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
