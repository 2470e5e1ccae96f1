"""How well scores tell two kinds apart: area under the curve, precision and recall at thresholds, calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.floating]

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def auc(positive: Scores, negative: Scores) -> float:
    """The chance that a positive one has the higher score; equal scores count half (Mann and Whitney). 0.5 of none."""
    if not len(positive) or not len(negative):
        return 0.5
    ranked = np.sort(negative)
    below = np.searchsorted(ranked, positive, "left") + np.searchsorted(ranked, positive, "right")
    return float(below.sum() / 2 / len(positive) / len(negative))


def at_thresholds(
    positive: Scores, negative: Scores, thresholds: Sequence[float] = THRESHOLDS
) -> list[dict[str, float]]:
    """Precision, recall and the share of negatives taken for positives, by threshold. Precision is 1 of none found."""
    rows = []
    for threshold in thresholds:
        right, wrong = int((positive >= threshold).sum()), int((negative >= threshold).sum())
        rows.append(
            {
                "threshold": threshold,
                "precision": round(right / (right + wrong), 4) if right + wrong else 1.0,
                "recall": round(right / max(1, len(positive)), 4),
                "false_alarms": round(wrong / max(1, len(negative)), 4),
            }
        )
    return rows


def calibration(scores: Scores, truth: npt.NDArray[np.bool_], bins: int = 10) -> tuple[float, list[dict[str, float]]]:
    """The expected calibration error (Naeini et al. 2015) and, by equal steps of the score, the mean score, the share
    that is true, and how many there are."""
    places = np.minimum((scores * bins).astype(int), bins - 1)
    rows, error = [], 0.0
    for place in range(bins):
        inside = places == place
        if inside.any():
            said, was = float(scores[inside].mean()), float(truth[inside].mean())
            error += abs(said - was) * inside.mean()
            rows.append({"said": round(said, 4), "was": round(was, 4), "count": int(inside.sum())})
    return round(float(error), 4), rows
