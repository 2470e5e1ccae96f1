"""Muon (Jordan et al. 2024): momentum, then the nearest orthogonal matrix as the update."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, distributed

from luhuo.train.optimisers.groups import Group, is_kernel, parts
from luhuo.train.pieces import gathered, local, piece, shared_out

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration (Jordan et al. 2024, "Muon"): steep at zero, so five steps suffice."""
BETA = 0.95
BUNCH = 2**23
"""Numbers that go through the iteration together: their copies are all the memory a step takes."""


class Muon:
    """m ← β·m + g;  u ← orthogonalise(g + β·m);  w ← (1 - η·λ)·w - η·s·u, for matrices (rows, columns).

    `scale` is s. "rms": 0.2·√max(rows, columns), which gives u the root mean square of an AdamW step (Moonlight, Liu
    et al. 2025, section 2.2), so that one learning rate serves both. "spectral": √max(1, rows / columns), the original
    one, with which a learning rate holds for all widths (docs/optimisers.md). Fused projections are taken apart:
    query, key, value, gate and up are matrices of their own, and so is each expert's; a convolution is one matrix of
    its outputs by everything they see. Matrices of equal shape go through Newton-Schulz together.
    """

    def __init__(
        self, groups: Sequence[Group], fused: Mapping[str, Sequence[int]], *, scale: Literal["rms", "spectral"] = "rms"
    ) -> None:
        self.groups, self.scale = groups, scale
        named = {name: p for each in groups for name, p in each.parameters.items()}
        assert all(p.ndim in (2, 3) for p in named.values()), "a matrix has more than a stack's dimensions"
        self.momentum = {name: torch.zeros_like(p.detach()) for name, p in named.items()}
        self._split = {name: parts(name, p, fused) for name, p in named.items()}
        self._kernels = {name for name, p in named.items() if is_kernel(name, p)}

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Move all matrices that have a gradient, at `factor` times the learning rate."""
        for each in self.groups:
            rate = each.rate * factor
            for alike, split in self._bunches(each):
                gradients = [local(each.parameters[name].grad) for name in alike]  # type: ignore[arg-type]
                momenta = [local(self.momentum[name]) for name in alike]
                weights = [local(each.parameters[name].detach()) for name in alike]
                torch._foreach_mul_(momenta, BETA)  # pyright: ignore[reportPrivateImportUsage]
                torch._foreach_add_(momenta, gradients)  # pyright: ignore[reportPrivateImportUsage]
                ahead = torch._foreach_add(gradients, momenta, alpha=BETA)  # pyright: ignore[reportPrivateImportUsage]
                whole = [gathered(a, each.parameters[name]) for a, name in zip(ahead, alike, strict=True)]
                del ahead
                kernel = alike[0] in self._kernels
                found = self._directions([m.flatten(1) for m in whole] if kernel else whole, split)
                moves = [
                    piece(move.view(each.parameters[name].shape), each.parameters[name])
                    for move, name in zip(found, alike, strict=True)
                ]
                torch._foreach_mul_(weights, 1 - rate * each.decay)  # pyright: ignore[reportPrivateImportUsage]
                torch._foreach_add_(weights, moves, alpha=-rate)  # pyright: ignore[reportPrivateImportUsage]

    def state(self) -> dict[str, Tensor]:
        """One fp32 momentum a parameter."""
        return {f"{name}:momentum": value for name, value in self.momentum.items()}

    def _bunches(self, each: Group) -> Iterator[tuple[list[str], tuple[int, ...]]]:
        """Parameters taken apart alike, of one shape, as many as give `BUNCH` numbers, or each process one."""
        least = distributed.get_world_size() if distributed.is_initialized() else 1
        alike: dict[tuple[torch.Size, tuple[int, ...]], list[str]] = {}
        for name, p in each.parameters.items():
            if p.grad is not None:
                alike.setdefault((p.shape, self._split[name]), []).append(name)
        for (shape, split), names in alike.items():
            size = max(least, BUNCH // shape.numel(), 1)
            yield from ((names[start : start + size], split) for start in range(0, len(names), size))

    def _directions(self, matrices: list[Tensor], split: Sequence[int]) -> list[Tensor]:
        """Orthogonalised and scaled, for matrices of one shape (or stacks of them) that are taken apart alike."""
        columns = matrices[0].shape[-1]
        borders = list(itertools.accumulate(split, initial=0))
        moves = [torch.empty_like(matrix) for matrix in matrices]
        for rows in dict.fromkeys(split):
            places = [a for a, size in zip(borders, split, strict=False) if size == rows]
            taken = [m[..., a : a + rows, :].reshape(-1, rows, columns) for m in matrices for a in places]
            done = shared_out(torch.cat(taken), orthogonalise).to(taken[0].dtype)
            done = done.mul_(self._factor(rows, columns)).split([len(part) for part in taken])
            targets = [move[..., a : a + rows, :] for move in moves for a in places]
            for target, direction in zip(targets, done, strict=True):
                target.copy_(direction.view(target.shape))
        return moves

    def _factor(self, rows: int, columns: int) -> float:
        if self.scale == "rms":
            return 0.2 * max(rows, columns) ** 0.5
        return max(1.0, rows / columns) ** 0.5


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
