"""How sure a score is: Wilson intervals, bootstrap means, paired differences. Pure numpy, seeded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

RESAMPLES = 2000
_CHUNK = 4_000_000
"""Most draws held at once, so that memory stays bounded for any number of items."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval and the number of items behind it."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Paired:
    """The mean of b - a over the same items, its interval, and a two-sided p-value for "no difference"."""

    difference: float
    low: float
    high: float
    p_value: float
    n: int


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The score interval of a proportion (Wilson 1927); (0, 1) for n = 0. It never leaves [0, 1]."""
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return low, high


def near_chance(successes: int, n: int, chance: float, level: float = 0.95) -> bool:
    """Whether the result is not shown to be above chance: the lower end of its interval does not exceed it."""
    return wilson(successes, n, level)[0] <= chance


def bootstrap_mean(
    values: Sequence[float] | np.ndarray, seed: int, level: float = 0.95, resamples: int = RESAMPLES
) -> Estimate:
    """The mean of the values with a percentile bootstrap interval (Efron 1979)."""
    return bootstrap_macro([values], seed, level, resamples)


def bootstrap_macro(
    groups: Sequence[Sequence[float] | np.ndarray], seed: int, level: float = 0.95, resamples: int = RESAMPLES
) -> Estimate:
    """The mean of the groups' means; items are drawn again within each group, the groups themselves are fixed."""
    arrays = [np.asarray(group, dtype=np.float64) for group in groups if len(group)]
    if not arrays:
        return Estimate(math.nan, math.nan, math.nan, 0)
    random = np.random.default_rng(seed)
    draws = np.mean([_resampled_means(array, random, resamples) for array in arrays], axis=0)
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    mean = float(np.mean([array.mean() for array in arrays]))
    return Estimate(mean, float(low), float(high), sum(map(len, arrays)))


def _resampled_means(values: np.ndarray, random: np.random.Generator, resamples: int) -> np.ndarray:
    rows = max(1, _CHUNK // len(values))
    means = [
        values[random.integers(0, len(values), size=(min(rows, resamples - start), len(values)))].mean(axis=1)
        for start in range(0, resamples, rows)
    ]
    return np.concatenate(means)


def paired_difference(
    a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, seed: int, level: float = 0.95
) -> Paired:
    """Mean of b - a over the same items, a paired bootstrap interval, and a sign-flip test.

    Where all differences are of one size (right or wrong) the test is exact: the sign test, which is McNemar's.
    Raises `ValueError` if the two are not of equal length.
    """
    if len(a) != len(b):
        raise ValueError(f"paired values differ in number: {len(a)} and {len(b)}")
    differences = np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)
    estimate = bootstrap_mean(differences, seed, level)
    return Paired(estimate.mean, estimate.low, estimate.high, _sign_flip_p(differences, seed), len(differences))


def _sign_flip_p(differences: np.ndarray, seed: int) -> float:
    """Two-sided p of the sum under random signs (Fisher 1935): exact for equal sizes, else by 10,000 random draws."""
    moved = differences[differences != 0]
    if len(moved) == 0:
        return 1.0
    if np.allclose(np.abs(moved), abs(moved[0])):
        return sign_test(int((moved > 0).sum()), len(moved))
    random = np.random.default_rng(seed)
    rows = max(1, _CHUNK // len(moved))
    observed, draws, as_large = abs(moved.sum()), 10_000, 0
    for start in range(0, draws, rows):
        signs = random.choice((-1.0, 1.0), size=(min(rows, draws - start), len(moved)))
        as_large += int((np.abs(signs @ moved) >= observed - 1e-12).sum())
    return (1 + as_large) / (1 + draws)


def sign_test(wins: int, n: int) -> float:
    """Exact two-sided p of `wins` out of `n` under a fair coin."""
    few = min(wins, n - wins)
    log_tail = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2) for k in range(few + 1)
    ]
    return min(1.0, 2 * math.fsum(map(math.exp, log_tail)))
