"""From a law and a budget to a size and a number of tokens.

C = 6·N·D is wrong by half for small models, whose embeddings and attention weigh much. So the best size is looked for
along the shapes that `sizes.derive` makes: each has its own FLOPs a token, and on this machine its own rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from luhuo.model.count import flops_per_token, parameters
from luhuo.train.scaling.budget import Budget
from luhuo.train.scaling.intervals import Interval, Intervals
from luhuo.train.scaling.law import Array, Law, effective_tokens
from luhuo.train.scaling.points import Point
from luhuo.train.sizes import derive

NEAR = 0.01
"""Sizes whose predicted loss is within 1% of the lowest are as good: the valley is flat."""
REACH = 4096.0
"""How far beyond the largest measured size the best one is looked for."""


@dataclass(frozen=True)
class Shapes:
    """What sizes cost: rising parameters (all), body (without embeddings), FLOPs a token, FLOP/s of a run."""

    parameters: Array
    body: Array
    flops: Array
    rate: Array

    @classmethod
    def of(cls, points: Sequence[Point], rate: float | None) -> Shapes:
        """Shapes from a quarter of the smallest measured size on. `rate`: FLOP/s of a described machine, or None for
        the measured rates of this one (beyond the largest size, its rate)."""
        vocab, length = points[0].shape["vocab_size"], points[0].length
        low = min(point.parameters for point in points) / 4
        high = max(point.parameters for point in points) * REACH
        measured = {point.parameters: (point.body, point.flops / point.tokens) for point in points}
        table = dict(measured)
        for size in np.geomspace(low, high, 2 * round(math.log2(high / low))):
            if any(abs(math.log(size / known)) < 0.2 for known in measured):
                continue
            model = derive(float(round(size)), vocab, length=length).model
            counts = parameters(model)
            body = sum(count for name, count in counts.items() if name not in ("embedding", "positions", "head"))
            table[sum(counts.values())] = (body, float(flops_per_token(model, length)))
        known = sorted(table)
        total = np.geomspace(known[0], known[-1], 1200)
        columns = [np.array([table[size][i] for size in known]) for i in (0, 1)]
        body, flops = (np.exp(np.interp(np.log(total), np.log(known), np.log(column))) for column in columns)
        return cls(total, np.maximum.accumulate(body), flops, _rates(points, total, rate))

    def count(self, kind: str) -> Array:
        """N as a law counts it: "all" or "body"."""
        return self.parameters if kind == "all" else self.body


def _rates(points: Sequence[Point], total: Array, rate: float | None) -> Array:
    if rate is not None:
        return np.full_like(total, rate)
    sizes = sorted({point.parameters for point in points})
    middle = [float(np.median([p.flops_per_s for p in points if p.parameters == size])) for size in sizes]
    return np.exp(np.interp(np.log(total), np.log(sizes), np.log(np.maximum(middle, 1.0))))


@dataclass(frozen=True)
class Recommendation:
    """What to train with a budget."""

    budget: str
    flops: float
    seconds: float
    size: Interval
    """Parameters, all of them."""
    tokens: Interval
    loss: Interval
    """Predicted bits per byte of the recommended run."""
    near: tuple[float, float]
    """Sizes whose predicted loss is within 1% of the lowest."""
    epochs: float
    at_edge: bool
    """No lowest point within the sizes that were looked at."""

    def as_dict(self) -> dict[str, Any]:
        """JSON value."""
        return asdict(self)


def recommend(intervals: Intervals, shapes: Shapes, budget: Budget, *, count: str, unique: float) -> Recommendation:
    """The size and tokens of the lowest predicted loss for a budget, each with its interval."""
    flops = np.full_like(shapes.rate, budget.flops) if budget.flops else shapes.rate * float(budget.seconds or 0)
    tokens = flops / shapes.flops
    worth, sizes = effective_tokens(tokens, unique), shapes.count(count)

    def best(law: Law) -> tuple[float, float]:
        """Place of the lowest loss among the shapes (with a fraction), and that loss."""
        return _lowest(law.loss(sizes, worth))

    def at(column: Array) -> Callable[[Law], float]:
        where = np.arange(len(column), dtype=float)
        return lambda law: math.exp(float(np.interp(best(law)[0], where, np.log(column))))

    place, lowest = best(intervals.fitted.law)
    losses = intervals.fitted.law.loss(sizes, worth)
    near = shapes.parameters[losses <= lowest * (1 + NEAR)]
    spent = at(flops)(intervals.fitted.law)
    return Recommendation(
        budget=budget.text,
        flops=spent,
        seconds=spent / at(shapes.rate)(intervals.fitted.law),
        size=intervals.of(at(shapes.parameters)),
        tokens=intervals.of(at(tokens)),
        loss=intervals.of(_loss_at(sizes, worth, place), noise=True),
        near=(float(near[0]), float(near[-1])),
        epochs=at(tokens)(intervals.fitted.law) / unique,
        at_edge=not 0 < place < len(sizes) - 1,
    )


def _loss_at(sizes: Array, worth: Array, place: float) -> Callable[[Law], float]:
    """Loss of the one run that is recommended: what other laws would recommend instead is no part of its interval."""
    where = np.arange(len(sizes), dtype=float)
    n, d = (math.exp(float(np.interp(place, where, np.log(column)))) for column in (sizes, worth))
    return lambda law: float(law.loss(n, d))


def _lowest(losses: Array) -> tuple[float, float]:
    """Index (with a fraction, by the parabola through three neighbours) and value of the lowest loss."""
    i = int(losses.argmin())
    if not 0 < i < len(losses) - 1:
        return float(i), float(losses[i])
    before, here, after = losses[i - 1 : i + 2]
    bend = before - 2 * here + after
    return i + (0.5 * (before - after) / bend if bend > 0 else 0.0), float(here)
