"""Does a model know what it knows: reliability bins, expected calibration error, Brier score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Binning = Literal["width", "mass"]


@dataclass(frozen=True)
class Bin:
    """Answers given with similar confidence: how sure the model was on average, and how often it was right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """`ece`: mean distance of confidence and accuracy, weighted by bin; `mce`: the largest; `brier`: of the chosen
    answer; `overconfidence`: mean confidence minus accuracy."""

    ece: float
    mce: float
    brier: float
    overconfidence: float
    n: int
    bins: tuple[Bin, ...]


def calibration(
    confidences: Sequence[float], correct: Sequence[bool | float], bins: int = 10, binning: Binning = "width"
) -> Calibration:
    """Expected calibration error (Naeini et al. 2015) over bins of equal width (Guo et al. 2017) or equal mass.

    `confidences` are probabilities of the chosen answers. Empty bins are left out. Raises ValueError for values
    outside of 0 to 1, for sequences of different lengths and for empty ones.
    """
    sure, right = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if sure.shape != right.shape or not len(sure) or not ((sure >= 0) & (sure <= 1)).all():
        raise ValueError("calibration needs as many probabilities as outcomes, and at least one")
    edges = np.linspace(0, 1, bins + 1) if binning == "width" else np.quantile(sure, np.linspace(0, 1, bins + 1))
    places = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)  # a bin is (low, high]
    found = []
    for place in range(bins):
        mine = places == place
        if mine.any():
            middle = (float(sure[mine].mean()), float(right[mine].mean()))
            found.append(Bin(float(edges[place]), float(edges[place + 1]), int(mine.sum()), *middle))
    gaps = np.array([abs(one.confidence - one.accuracy) for one in found])
    ece = float((gaps * [one.n for one in found]).sum() / len(sure))
    brier = float(((sure - right) ** 2).mean())
    return Calibration(ece, float(gaps.max()), brier, float((sure - right).mean()), len(sure), tuple(found))


def chosen_probability(scores: Sequence[float]) -> float:
    """The probability of the best choice, from the summed log-probabilities of all choices of an item."""
    values = np.exp(np.asarray(scores, dtype=np.float64) - max(scores))
    return float(1.0 / values.sum())
