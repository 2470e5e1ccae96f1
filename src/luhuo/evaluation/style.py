"""Style control: ratings at equal length and layout, by logistic regression with features of style beside the models.

The features are those of the public arenas: length, headers, lists and bold texts of each side's answers, as
(a - b) / (a + b + 1), each divided by its root mean square over the votes. They are not centred: swapping the sides
of all votes then changes no rating.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.evaluation.ratings import (
    STEPS,
    TOLERANCE,
    Array,
    Leaderboard,
    bounded,
    check_joined,
    count,
    leaderboard,
)
from luhuo.evaluation.votes import Vote

FEATURES = ("length", "headers", "lists", "bold")
RIDGE = 1e-6
"""Weight of a penalty on the features alone, so that one that never differs has the weight zero."""
_CODE = re.compile(r"```.*?(?:```|\Z)", re.S)
_HEADER = re.compile(r"^ {0,3}#{1,6}\s", re.M)
_LIST = re.compile(r"^\s*(?:[-*+]|\d+[.)、])\s", re.M)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")
_WORD = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3400-\u9fff\uf900-\ufaff]+")


def style(texts: Sequence[str]) -> dict[str, float]:
    """Features of the answers of one side: words (a Chinese character is one), and headers, list entries and bold
    texts outside of code."""
    plain = [_CODE.sub("", text) for text in texts]
    return {
        "length": float(sum(len(_WORD.findall(text)) for text in texts)),
        "headers": float(sum(len(_HEADER.findall(text)) for text in plain)),
        "lists": float(sum(len(_LIST.findall(text)) for text in plain)),
        "bold": float(sum(len(_BOLD.findall(text)) for text in plain)),
    }


def differences(votes: Sequence[Vote], features: Sequence[str] = FEATURES) -> Array:
    """Features (votes, features) of model a against model b. Raises `LuhuoError` for votes without their answers."""
    rows = []
    for number, vote in enumerate(votes):
        told = vote.style
        if not told and any(vote.answers):
            a, b = (style(side) for side in vote.answers)
            told = {name: (a[name], b[name]) for name in FEATURES}
        if any(name not in told for name in features):
            raise LuhuoError(
                tr("Style control needs the answers of each vote.", "风格控制需要每次投票的回答内容。"),
                expected="conversation_a, conversation_b; conv_metadata",
                where=tr(f"vote {number + 1}", f"第 {number + 1} 票"),
            )
        rows.append([_ratio(*told[name]) for name in features])
    found = np.array(rows, dtype=np.float64)
    size = np.sqrt((found**2).mean(0))
    return found / np.where(size > 0, size, 1.0)


def _ratio(a: float, b: float) -> float:
    return (a - b) / (a + b + 1)


@dataclass(frozen=True)
class Contextual:
    """Log-strengths (M) with mean zero, weights of the features (K), and their sandwich covariance (M + K)."""

    strengths: Array
    weights: Array
    covariance: Array


def fit(first: Array, second: Array, score: Array, features: Array, models: int) -> Contextual:
    """Maximum likelihood of score ~ sigmoid(θ_first - θ_second + features · w), by Newton's method."""
    size, more = models, features.shape[1]
    wide, level = size + more, np.zeros((size + more, size + more))
    level[:size, :size] = 1.0 / size
    level[size:, size:] = RIDGE * np.eye(more)
    found = np.zeros(wide)
    for _ in range(STEPS):
        chance = _sigmoid(found[first] - found[second] + features @ found[size:])
        slope = _scores(first, second, features, score - chance, size) - level @ np.r_[np.zeros(size), found[size:]]
        bend = _outer(first, second, features, chance * (1 - chance), size) + level
        step = np.linalg.solve(bend, slope)
        reach = float(np.abs(step[first] - step[second] + features @ step[size:]).max(initial=0.0))
        found = found + (np.log1p(reach) / reach if reach > 1e-9 else 1.0) * step
        if reach < TOLERANCE:
            break
    chance = _sigmoid(found[first] - found[second] + features @ found[size:])
    inverse = np.linalg.inv(_outer(first, second, features, chance * (1 - chance), size) + level)
    meat = _outer(first, second, features, (score - chance) ** 2, size)
    strengths = found[:size] - found[:size].mean()
    return Contextual(strengths, found[size:], inverse @ meat @ inverse)


def style_controlled(
    votes: Sequence[Vote],
    *,
    features: Sequence[str] = FEATURES,
    anchor: tuple[str, float] | None = None,
    level: float = 0.95,
) -> Leaderboard:
    """The leaderboard at equal style, with sandwich intervals. Raises `LuhuoError` where votes tell no style, do not
    join all models, or some model only won or only lost."""
    counts = count(votes)
    check_joined(counts)
    finite = bounded(counts)
    if not finite.all():
        raise LuhuoError(
            tr("Style control needs wins and losses of every model.", "风格控制要求每个模型都有胜有负。"),
            found=", ".join(name for name, known in zip(counts.models, finite, strict=True) if not known),
            fix=tr("Collect more votes, or rate without style control.", "收集更多投票，或不使用风格控制。"),
        )
    place = {name: number for number, name in enumerate(counts.models)}
    first = np.array([place[vote.model_a] for vote in votes])
    second = np.array([place[vote.model_b] for vote in votes])
    score = np.array([vote.score for vote in votes])
    found = fit(first, second, score, differences(votes, features), len(place))
    half = NormalDist().inv_cdf(0.5 + level / 2) * np.sqrt(np.maximum(np.diagonal(found.covariance), 0))
    size, theta = len(place), found.strengths
    told = {
        name: (float(w), float(w - h), float(w + h))
        for name, w, h in zip(features, found.weights, half[size:], strict=True)
    }
    return leaderboard(counts, theta, theta - half[:size], theta + half[:size], "sandwich", anchor, style=told)


def _scores(first: Array, second: Array, features: Array, weight: Array, size: int) -> Array:
    """Σ weight · (e_first - e_second, features) over votes."""
    models = np.bincount(first, weight, size) - np.bincount(second, weight, size)
    return np.r_[models, weight @ features]


def _outer(first: Array, second: Array, features: Array, weight: Array, size: int) -> Array:
    """Σ weight · x xᵀ of x = (e_first - e_second, features)."""
    more = features.shape[1]
    made = np.zeros((size + more, size + more))
    np.add.at(made, (first, first), weight)
    np.add.at(made, (second, second), weight)
    np.add.at(made, (first, second), -weight)
    np.add.at(made, (second, first), -weight)
    for k in range(more):
        part = weight * features[:, k]
        cross = np.bincount(first, part, size) - np.bincount(second, part, size)
        made[:size, size + k] = made[size + k, :size] = cross
    made[size:, size:] = features.T @ (features * weight[:, None])
    return made


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(x / 2))
