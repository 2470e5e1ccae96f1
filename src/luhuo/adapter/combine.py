"""One adapter out of several on the same base: linear, TIES, DARE, or the best of low rank.

All work on the whole updates ΔW of each matrix, one matrix at a time, never on the factors: a sum of products is no
product of sums. What comes out is a plain LoRA of a given rank (the leading singular vectors), or of as many
directions as all have together, with which the linear sum is exact.

- linear: Σ wᵢ ΔWᵢ;
- ties (Yadav et al. 2023): of each ΔWᵢ the `density` largest numbers stay; where signs differ, the sign with the
  larger sum wins, and those that agree with it are averaged by their weights, times the sum of the weights;
- dare (Yu et al. 2023): of each ΔWᵢ a random `density` stays, times 1 / density; then linear;
- svd: linear, cut to `rank`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from luhuo.adapter.attach import attach, attached
from luhuo.adapter.config import AdapterConfig
from luhuo.adapter.files import load
from luhuo.adapter.lora import LowRank
from luhuo.adapter.matrices import MatrixMethod, Part
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.model.base import LanguageModel

How = Literal["linear", "ties", "dare", "svd"]
HOW = ("linear", "ties", "dare", "svd")


def combine(
    model: LanguageModel,
    folders: Sequence[str | Path],
    how: How = "linear",
    *,
    weights: Sequence[float] = (),
    density: float = 0.5,
    rank: int = 0,
    base: str = "",
    seed: int = 0,
) -> None:
    """Attach to a model the combination of the adapters in `folders`, with `weights` (all equal, adding up to 1).

    `rank` 0: all directions that there can be. Raises `LuhuoError` for adapters that are no updates of matrices.
    """
    shares = list(weights) or [1 / len(folders)] * len(folders)
    _check(folders, how, shares, density)
    table = _updates(model, folders, base)
    every = {name: columns for parts in table for name, (_, columns) in parts.items()}
    given = rank or sum(max(part.directions for part, _ in parts.values()) for parts in table)
    targets = sorted(every)
    adapter = attach(model, AdapterConfig(rank=given, alpha=float(given), targets=targets))
    adapter.base = base
    assert isinstance(adapter, MatrixMethod)
    with torch.no_grad():
        for part in adapter.parts:
            assert isinstance(part, LowRank)
            name = part.target.theirs
            random = torch.Generator().manual_seed(derive_seed(seed, "dare", name))
            found = [(own[name][0].delta(), w) for own, w in zip(table, shares, strict=True) if name in own]
            a, b = _factors(_RULES[how](found, density, random), given)
            part.a.copy_(a)
            part.b.copy_(b)


class Update:
    """The update of one matrix, made when it is asked for."""

    def __init__(self, part: Part, weight: Callable[[], Tensor]) -> None:
        self.part, self.weight = part, weight
        self.directions = min(len(part.target.rows), part.target.columns)
        if isinstance(part, LowRank) and type(part) is LowRank:
            self.directions = min(self.directions, len(part.factors[0]))

    @torch.no_grad()
    def delta(self) -> Tensor:
        """ΔW (rows, columns), fp32 on the CPU."""
        weight = self.weight()
        return (self.part.merged(weight) - weight).cpu()


def _updates(model: LanguageModel, folders: Sequence[str | Path], base: str) -> list[dict[str, tuple[Update, int]]]:
    """For each adapter its updates by published name, with the number of columns. The model is left without any."""
    table = []
    for folder in folders:
        left = load(model, folder, base=base)
        adapter = attached(model)
        assert adapter is not None
        if not isinstance(adapter, MatrixMethod) or not adapter.mergeable or adapter.extra or left:
            raise LuhuoError(
                tr("Only updates of matrices are combined.", "只能组合对矩阵的更新。"),
                expected="lora, dora, adalora, dylora, vera, ia3",
                found=adapter.config.method + (tr(" with whole modules", "（含整体模块）") if adapter.extra else ""),
                where=folder,
                fix=tr("Merge it into the model first.", "请先把它合并进模型。"),
            )
        parts = {}
        for part in adapter.parts:
            matrix = adapter.matrix(part.target.owner)
            place = part.target.place
            own = Update(part, lambda matrix=matrix, place=place: matrix.dense(torch.float32).detach()[place])
            parts[part.target.theirs] = own, part.target.columns
        table.append(parts)
        adapter.put(on=False)
        adapter.leave()
    return table


def _linear(found: Sequence[tuple[Tensor, float]], density: float, random: torch.Generator) -> Tensor:
    return torch.stack([delta * weight for delta, weight in found]).sum(0)


def _ties(found: Sequence[tuple[Tensor, float]], density: float, random: torch.Generator) -> Tensor:
    trimmed = []
    for delta, _ in found:
        count = max(1, round(density * delta.numel()))
        least = delta.abs().flatten().kthvalue(delta.numel() - count + 1).values
        trimmed.append(torch.where(delta.abs() >= least, delta, 0.0))
    weights = torch.tensor([weight for _, weight in found])[:, None, None]
    stack = torch.stack(trimmed)
    sign = (stack * weights).sum(0).sign()
    agree = (stack.sign() == sign) & (stack != 0)
    total = (stack * weights * agree).sum(0)
    return total / (weights * agree).sum(0).clamp(min=1e-12) * weights.sum()


def _dare(found: Sequence[tuple[Tensor, float]], density: float, random: torch.Generator) -> Tensor:
    kept = [
        (delta * (torch.rand(delta.shape, generator=random) < density) / density, weight) for delta, weight in found
    ]
    return _linear(kept, density, random)


_RULES: dict[str, Callable[[Sequence[tuple[Tensor, float]], float, torch.Generator], Tensor]] = {
    "linear": _linear,
    "ties": _ties,
    "dare": _dare,
    "svd": _linear,
}


def _factors(delta: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A (rank, columns) and B (rows, rank) with the product nearest to `delta`."""
    u, s, v = torch.linalg.svd(delta, full_matrices=False)
    root = s[:rank].sqrt()
    a, b = root[:, None] * v[:rank], u[:, :rank] * root
    short = rank - len(root)
    return torch.nn.functional.pad(a, (0, 0, 0, short)), torch.nn.functional.pad(b, (0, short))


def _check(folders: Sequence[str | Path], how: str, weights: Sequence[float], density: float) -> None:
    wrong: Iterator[tuple[bool, str, object]] = iter(
        [
            (how not in HOW, ", ".join(HOW), how),
            (len(weights) != len(folders), tr("one weight an adapter", "每个适配器一个权重"), list(weights)),
            (not 0 < density <= 1, "0 < density ≤ 1", density),
        ]
    )
    for bad, expected, found in wrong:
        if bad:
            raise LuhuoError(
                tr("Adapters cannot be combined like this.", "无法这样组合适配器。"), expected=expected, found=found
            )
