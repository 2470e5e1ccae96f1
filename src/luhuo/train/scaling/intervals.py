"""How sure the law is: a bootstrap over the runs, and the delta method beside it.

Any number that follows from a law (an exponent, a predicted loss, the best size for a budget) gets its intervals from
the same two sources: its spread over laws refitted to resampled runs, and its slope along the fitted parameters.

The bootstrap is the wild one (Wu 1986; Liu 1988): every run keeps its place in the grid, and its residual, divided by
1 - leverage, a random sign. Drawing runs with replacement leaves some grids of twenty runs without a size; drawing
residuals across runs supposes that short runs scatter no more than long ones. Both cover worse (docs/diary.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np

from luhuo.core.seeds import derive_seed
from luhuo.train.scaling.fit import FREE, HIGH, LOW, Fit, jacobian, minimise, predict
from luhuo.train.scaling.law import Array, Law

LEVEL = 0.95
STEP = 1e-5
"""Of the numerical derivatives along the centred parameters, which are of order one."""


@dataclass(frozen=True)
class Interval:
    """A value with its bootstrap interval and its delta-method interval, both at 95%."""

    value: float
    low: float
    high: float
    delta_low: float
    delta_high: float

    def as_dict(self) -> dict[str, float]:
        """JSON value."""
        return asdict(self)


class Intervals:
    """Intervals of what follows from one fit. `resamples` laws are refitted once and serve every question."""

    def __init__(self, fitted: Fit, resamples: int, seed: int) -> None:
        self.fitted, self.resamples, self.seed = fitted, resamples, seed
        self.quantile = student_t(0.5 + LEVEL / 2, fitted.data.y.size - FREE)

    @cached_property
    def laws(self) -> list[Law]:
        """The refitted laws."""
        data = self.fitted.data
        theta = self.fitted.theta
        random = np.random.Generator(np.random.PCG64(derive_seed(self.seed, "bootstrap")))
        signs = random.choice((-1.0, 1.0), size=(self.resamples, data.y.size))
        drawn = predict(theta, data.n, data.d) + self.fitted.residuals / (1 - self._leverage) * signs
        begin = np.repeat(theta[None], self.resamples, 0)
        found, _ = minimise(data, drawn, np.ones((1, data.y.size)), begin, self.fitted.delta)
        return [data.law(row) for row in found]

    def of(self, quantity: Callable[[Law], float], *, noise: bool = False) -> Interval:
        """Intervals of a positive number that follows from the law; ends are equally many times off, not equally far.

        noise: of the result of one more run, which scatters around the law, not of the law alone.
        """
        value = math.log(quantity(self.fitted.law))
        extra = self.quantile * self.fitted.spread if noise else 0.0
        # So few residuals know their own spread badly: percentiles are as much too narrow as Gauss is against Student.
        widen = self.quantile / NormalDist().inv_cdf(0.5 + LEVEL / 2)
        values = np.log([quantity(law) for law in self.laws])
        low, high = (widen * (np.quantile(values, tail) - value) for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
        slope = self._slope(quantity)
        half = math.hypot(self.quantile * math.sqrt(max(0.0, float(slope @ self._covariance @ slope))), extra)
        ends = (-math.hypot(min(low, 0.0), extra), math.hypot(max(high, 0.0), extra), -half, half)
        return Interval(math.exp(value), *(math.exp(np.clip(value + end, -700, 700)) for end in ends))

    def _slope(self, quantity: Callable[[Law], float]) -> Array:
        data, theta = self.fitted.data, self.fitted.theta
        ends = [[math.log(quantity(data.law(theta + side * STEP * row))) for side in (1, -1)] for row in np.eye(FREE)]
        return np.array([(up - down) / (2 * STEP) for up, down in ends])

    @cached_property
    def _slopes(self) -> Array:
        return jacobian(self.fitted.theta, self.fitted.data.n, self.fitted.data.d)

    @cached_property
    def _inverse(self) -> Array:
        """Of the normal matrix; a parameter at the end of its range does not vary, and says nothing of the others."""
        theta = self.fitted.theta
        free = np.flatnonzero((theta > LOW + 1e-6) & (theta < HIGH - 1e-6))
        slopes, whole = self._slopes[:, free], np.zeros((FREE, FREE))
        whole[np.ix_(free, free)] = np.linalg.pinv(slopes.T @ slopes)
        return whole

    @cached_property
    def _leverage(self) -> Array:
        """Share of each run's own residual in its fitted value; 0.95 at most, or a lone run would swing the law."""
        return np.clip(np.einsum("mi,ij,mj->m", self._slopes, self._inverse, self._slopes), 0.0, 0.95)

    @cached_property
    def _covariance(self) -> Array:
        """Of (e, a, b, α, β), for Huber's estimate (Huber 1981, section 7.6, with his correction for few runs)."""
        residuals, delta, count = self.fitted.residuals, self.fitted.delta, self.fitted.residuals.size
        inside = max(float((np.abs(residuals) < delta).mean()), 1 / count)
        correction = (1 + FREE / count * (1 - inside) / inside) ** 2
        clipped = np.clip(residuals, -delta, delta)
        return correction * float(clipped @ clipped) / (count - FREE) / inside**2 * self._inverse


def student_t(probability: float, freedom: int) -> float:
    """Quantile of Student's t: exact for 1 and 2 degrees of freedom, else by Cornish and Fisher's expansion
    (Abramowitz and Stegun 1964, 26.7.5), within 1% from 3 degrees on at the levels used here."""
    if freedom == 1:
        return math.tan(math.pi * (probability - 0.5))
    if freedom == 2:
        side = 2 * probability - 1
        return side * math.sqrt(2 / (1 - side * side))
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom ** (power + 1) for power, term in enumerate(terms))
