"""Approaches 1 and 2 of Hoffmann et al. 2022: the best size for a compute without supposing a law.

Approach 1 follows each size's loss over compute and takes the lowest at every compute (section 3.1). Approach 2 fits
a parabola in log N through the runs of equal compute and takes its lowest point (section 3.2). Both then fit
log N_opt = a·log C + const. They use fewer of the runs than the law, and check it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from luhuo.train.scaling.law import Array

SAME = 0.08
"""Runs whose log compute differs by no more are of one level: steps are whole, so compute never is equal."""


@dataclass(frozen=True)
class Level:
    """Runs of equal compute, and the parabola log L = curve·(log N - log N_opt)² + … through them."""

    flops: float
    sizes: list[float]
    losses: list[float]
    best: float | None
    """N at the parabola's lowest point; None where it lies outside the sizes, or there are fewer than three."""
    coefficients: list[float] | None
    """Of log L in log N, highest power first."""


@dataclass(frozen=True)
class Exponent:
    """N_opt = factor · C^a, from `count` points."""

    a: float
    factor: float
    count: int

    def size(self, flops: float) -> float:
        """The best N for a compute."""
        return self.factor * flops**self.a


def levels(sizes: Array, flops: Array, losses: Array) -> list[Level]:
    """Approach 2's parabolas, by rising compute."""
    order = np.argsort(flops)
    groups: list[list[int]] = []
    for i in order:
        if groups and np.log(flops[i] / flops[groups[-1][0]]) <= SAME:
            groups[-1].append(int(i))
        else:
            groups.append([int(i)])
    return [_level(sizes[group], flops[group], losses[group]) for group in groups]


def _level(sizes: Array, flops: Array, losses: Array) -> Level:
    order = np.argsort(sizes)
    sizes, losses = sizes[order], losses[order]
    best = coefficients = None
    if len(np.unique(sizes)) >= 3:
        n = np.log(sizes)
        fitted = np.polyfit(n - n.mean(), np.log(losses), 2)
        vertex = -fitted[1] / (2 * fitted[0]) + n.mean()
        coefficients = [float(c) for c in np.polyfit(n, np.log(losses), 2)]
        if fitted[0] > 0 and n[0] <= vertex <= n[-1]:
            best = float(np.exp(vertex))
    mean = float(np.exp(np.log(flops).mean()))
    return Level(mean, sizes.tolist(), losses.tolist(), best, coefficients)


def second(found: Sequence[Level]) -> Exponent | None:
    """Approach 2: the power law through the parabolas' lowest points; None with fewer than two."""
    usable = [(level.flops, level.best) for level in found if level.best is not None]
    return _power_law(usable)


def first(sizes: Array, flops: Array, losses: Array, steps: int = 60) -> Exponent | None:
    """Approach 1: the lower envelope of the sizes' curves, log loss running straight between runs of one size.

    At each compute only sizes measured below and above it take part, and a best that is the smallest or the largest
    of these is no optimum but the end of the grid, and is left out.
    """
    curves = []
    for size in np.unique(sizes):
        mine = np.flatnonzero(sizes == size)
        mine = mine[np.argsort(flops[mine])]
        curves.append((size, np.log(flops[mine]), np.log(losses[mine])))
    usable = []
    for c in np.linspace(np.log(flops.min()), np.log(flops.max()), steps):
        here = [(float(np.interp(c, x, y)), size) for size, x, y in curves if x[0] - SAME <= c <= x[-1] + SAME]
        if len(here) < 3:
            continue
        best = min(here)[1]
        if min(size for _, size in here) < best < max(size for _, size in here):
            usable.append((float(np.exp(c)), float(best)))
    return _power_law(usable) if len({size for _, size in usable}) > 1 else None


def _power_law(points: Sequence[tuple[float, float]]) -> Exponent | None:
    if len({round(flops, 3) for flops, _ in points}) < 2:
        return None
    x, y = np.log(np.array(points)).T
    a, start = np.polyfit(x, y, 1)
    return Exponent(float(a), float(np.exp(start)), len(points))


def as_dict(found: Sequence[Level]) -> list[dict[str, Any]]:
    """JSON value."""
    return [asdict(level) for level in found]
