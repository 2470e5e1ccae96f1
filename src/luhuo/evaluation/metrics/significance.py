"""Is one model better than another on the same items, and what difference could these items have shown at all?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from luhuo.verify.statistics import Paired, paired_difference, sign_test


@dataclass(frozen=True)
class McNemar:
    """Items that only the first, only the second, both or neither got right, and the exact two-sided p-value."""

    only_first: int
    only_second: int
    both: int
    neither: int
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """The paired difference, and the smallest true one that would be noticed in 4 of 5 such tests."""

    paired: Paired
    detectable: float
    significant: bool


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """McNemar's test (1947) in its exact form: a fair coin decides each item that only one of them got right.

    Raises ValueError for sequences of different lengths.
    """
    pairs = [(bool(a), bool(b)) for a, b in zip(first, second, strict=True)]
    only_first, only_second = pairs.count((True, False)), pairs.count((False, True))
    p_value = sign_test(only_second, only_first + only_second)
    return McNemar(only_first, only_second, pairs.count((True, True)), pairs.count((False, False)), p_value)


def compare(first: Sequence[float], second: Sequence[float], seed: int, level: float = 0.95) -> Comparison:
    """Second minus first on the same items, with p-value, interval and minimum detectable difference."""
    paired = paired_difference(first, second, seed, level)
    differences = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    detectable = minimum_detectable(differences, 1 - level)
    return Comparison(paired, detectable, paired.p_value < 1 - level)


def pooled_share(
    hits: Sequence[float], counts: Sequence[float], seed: int, level: float = 0.95, resamples: int = 1000
) -> dict[str, Any]:
    """A score as a result file has it: the sum of hits over the sum of counts, with items drawn again whole.

    For measures that are no mean of items: instructions of several prompts, points of several papers.
    """
    above, below = np.asarray(hits, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    random = np.random.default_rng(seed)
    draws = [random.integers(0, len(above), len(above)) for _ in range(resamples)]
    shares = [float(above[draw].sum() / max(below[draw].sum(), 1e-300)) for draw in draws]
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2])
    value = float(above.sum() / below.sum())
    return {
        "value": value,
        "stderr": float(np.std(shares, ddof=1)),
        "low": float(low),
        "high": float(high),
        "n": len(above),
        "chance": None,
    }


def minimum_detectable(differences: Sequence[float] | np.ndarray, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true mean difference that a two-sided paired test at `alpha` finds with probability `power`:
    (z of 1 - alpha/2 + z of power) · standard error (Miller 2024, section 5). NaN for fewer than two items."""
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        return math.nan
    return _reach(alpha, power) * float(values.std(ddof=1)) / math.sqrt(len(values))


def minimum_detectable_before(
    n: int, accuracy: float, agreement: float, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The same before anything is measured: `n` items, an accuracy, and the share of items on which the two models
    are both right or both wrong. Raises ValueError for values outside of 0 to 1."""
    if n < 1 or not 0 <= accuracy <= 1 or not 0 <= agreement <= 1:
        raise ValueError("a number of items and two shares from 0 to 1 are needed")
    disagreement = min(1 - agreement, 2 * min(accuracy, 1 - accuracy))
    return _reach(alpha, power) * math.sqrt(disagreement / n)


def _reach(alpha: float, power: float) -> float:
    normal = NormalDist()
    return normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)
