"""Adafactor (Shazeer and Stern 2018): the second moment of a matrix kept as one number a row and one a column."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from luhuo.train.optimisers.groups import Group, is_kernel, parts
from luhuo.train.pieces import gathered, local, piece

DECAY = 0.8
"""β₂ of step t is 1 - t^-0.8 (section 7.2)."""
CLIP = 1.0
"""Largest root mean square of an update before the learning rate (section 6)."""
TINY = 1e-30
"""Added to squared gradients."""
LEAST = 1e-3
"""A parameter's root mean square counts as no less, where steps are relative to it (section 8)."""


class Adafactor:
    """v ← β₂·v + (1 - β₂)·g², factored;  u ← g / √v, clipped;  w ← (1 - η·λ)·w - η·u. No first moment.

    `relative`: the step is η · max(`LEAST`, RMS(w)), with η by the schedule as always; the paper's η is the schedule
    inverse_sqrt. Matrices inside a fused parameter, and each expert's, have sums and a clipping of their own. With
    sharded weights every process gathers one gradient after the other, as the factors are of whole matrices; they are
    small, and every process keeps all of them.
    """

    def __init__(self, groups: Sequence[Group], fused: dict[str, Sequence[int]], *, relative: bool = False) -> None:
        self.groups, self.relative = groups, relative
        self.parts: dict[str, tuple[int, ...]] = {}
        self.rows: dict[str, Tensor] = {}
        self.columns: dict[str, Tensor] = {}
        for each in groups:
            for name, p in each.parameters.items():
                self.rows[name] = torch.zeros(p.shape[:-1] if p.ndim > 1 else p.shape, device=p.device)
                if p.ndim > 1:
                    self.parts[name] = (p.shape[-2],) if is_kernel(name, p) else parts(name, p, fused)
                    count = len(self.parts[name])
                    self.columns[name] = torch.zeros(*p.shape[:-2], count, p.shape[-1], device=p.device)
        self.count = torch.zeros((), dtype=torch.float64)

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Move all parameters that have a gradient, at `factor` times the peak learning rates."""
        self.count += 1
        share = self.count.item() ** -DECAY
        for each in self.groups:
            for name, p in each.parameters.items():
                if p.grad is not None:
                    self._move(name, p, each.rate * factor, each.decay, share)

    def _move(self, name: str, p: nn.Parameter, rate: float, decay: float, share: float) -> None:
        assert p.grad is not None
        update = gathered(local(p.grad), p).clone()
        weight = gathered(local(p.detach()), p) if self.relative else None
        if p.ndim == 1:
            self.rows[name].lerp_(update.square() + TINY, share)
            update.mul_(self.rows[name].rsqrt())
            _scale(update, weight)
        else:
            borders = list(itertools.accumulate(self.parts[name], initial=0))
            for index, (start, end) in enumerate(itertools.pairwise(borders)):
                row, column = self.rows[name][..., start:end], self.columns[name][..., index, :]
                part = update[..., start:end, :]
                _precondition(part, row, column, share)
                _scale(part, None if weight is None else weight[..., start:end, :])
        local(p.detach()).mul_(1 - rate * decay).sub_(piece(update, p), alpha=rate)

    def state(self) -> dict[str, Tensor]:
        """Sums by row (a vector's: by element) and by column, and how many steps were made."""
        rows = {f"{name}:square_rows": value for name, value in self.rows.items()}
        columns = {f"{name}:square_columns": value for name, value in self.columns.items()}
        return rows | columns | {"adafactor:step": self.count}


def _precondition(gradient: Tensor, row: Tensor, column: Tensor, share: float) -> None:
    """Divide gradients (…, R, C) by the root of their second moment, in place; `row` (…, R), `column` (…, C)."""
    square = gradient.square().add_(TINY)
    row.lerp_(square.mean(-1), share)
    column.lerp_(square.mean(-2), share)
    gradient.mul_((row / row.mean(-1, keepdim=True)).rsqrt().unsqueeze(-1)).mul_(column.rsqrt().unsqueeze(-2))


def _scale(update: Tensor, weight: Tensor | None) -> None:
    """Clip the root mean square of each matrix (of a vector) to `CLIP`, and take it relative to the weight's."""
    axes = (-2, -1) if update.ndim > 1 else (-1,)
    update.div_((update.square().mean(axes, keepdim=True).sqrt() / CLIP).clamp_(min=1))
    if weight is not None:
        update.mul_(weight.square().mean(axes, keepdim=True).sqrt().clamp_(min=LEAST))
