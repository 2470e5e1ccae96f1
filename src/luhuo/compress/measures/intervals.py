"""Intervals of a rate over texts of unequal length: the bootstrap draws whole documents again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from luhuo.verify.statistics import RESAMPLES, Estimate

FEWEST = 10
"""Documents below which their passages are drawn instead: three novels are no sample."""


def rate(values: np.ndarray, weights: np.ndarray, units: np.ndarray, seed: int, level: float = 0.95) -> Estimate:
    """Σ values / Σ weights, with a percentile interval over draws of whole units (Efron 1979; a ratio of sums).

    values, weights: (passages,); units: (passages,) the unit each belongs to, as numbers from 0. `n` is the number of
    units.
    """
    count = int(units.max()) + 1 if len(units) else 0
    sums = np.zeros((2, count))
    np.add.at(sums[0], units, values)
    np.add.at(sums[1], units, weights)
    random = np.random.default_rng(seed)
    drawn = random.integers(0, count, size=(RESAMPLES, count))
    draws = sums[0][drawn].sum(1) / sums[1][drawn].sum(1)
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Estimate(float(values.sum() / weights.sum()), float(low), float(high), count)


def units_of(documents: Sequence[str]) -> tuple[str, np.ndarray]:
    """What is drawn again ("documents", or "passages" where those are few), and the unit of each passage."""
    names = {name: number for number, name in enumerate(dict.fromkeys(documents))}
    if len(names) < FEWEST:
        return "passages", np.arange(len(documents))
    return "documents", np.array([names[name] for name in documents])
