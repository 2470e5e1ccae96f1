"""Ratings out of votes between two models: Bradley-Terry with intervals and ranks, Elo, and the matrix of pairs.

The Bradley-Terry model (1952) says that i beats j with probability 1 / (1 + 10^((r_j - r_i) / 400)); a tie counts as
half a win for each (as the public arenas do). Only differences mean anything: ratings are given around a mean of
1000, or so that one model, the anchor, has a rating of one's choice. Anchoring moves all and widens nothing.

Intervals come from the sandwich estimator (Huber 1967), which stays right where ties make the votes vary less than
coins do, or from resampled votes (Efron 1979). All fits are Newton's, over any number of vote counts at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Literal

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.evaluation.votes import Vote

Array = np.ndarray
SCALE, BASE, CENTRE = 400.0, 10.0, 1000.0
POINTS = SCALE / math.log(BASE)
"""Rating points of one unit of log-odds."""
RESAMPLES = 1000
PRIOR = 1.0
"""Virtual ties of each model with an average one, where the votes alone hold no finite ratings."""
STEPS, TOLERANCE = 100, 1e-10
CHUNK = 4_000_000
"""Most numbers of one kind held at once while votes are drawn again."""
Intervals = Literal["sandwich", "bootstrap"]


@dataclass(frozen=True)
class Counts:
    """Votes by pair: `wins[..., i, j]` of i over j, `ties` (symmetric); leading dimensions are separate elections."""

    models: tuple[str, ...]
    wins: Array
    ties: Array

    @property
    def games(self) -> Array:
        """Votes of each pair (..., M, M)."""
        return self.wins + self.wins.swapaxes(-1, -2) + self.ties

    @property
    def points(self) -> Array:
        """Wins, and half of the ties, of i over j (..., M, M)."""
        return self.wins + self.ties / 2


def count(votes: Sequence[Vote], models: Sequence[str] | None = None) -> Counts:
    """The votes by pair. Raises `LuhuoError` without a vote."""
    if not votes:
        raise LuhuoError(tr("There are no votes to rate by.", "没有可用于评分的投票。"))
    names = tuple(models) if models is not None else tuple(sorted({n for v in votes for n in (v.model_a, v.model_b)}))
    place = {name: number for number, name in enumerate(names)}
    wins, ties = np.zeros((len(names), len(names))), np.zeros((len(names), len(names)))
    for vote in votes:
        a, b = place[vote.model_a], place[vote.model_b]
        if vote.score == 0.5:
            ties[a, b] += 1
            ties[b, a] += 1
        elif vote.score == 1.0:
            wins[a, b] += 1
        else:
            wins[b, a] += 1
    return Counts(names, wins, ties)


def strengths(points: Array, prior: float = 0.0) -> Array:
    """Bradley-Terry log-strengths (..., M) with mean zero, of points (..., M, M): the maximum of the likelihood.

    `prior` is the weight of a virtual tie of each model with one of strength zero; with 0 there must be a finite
    maximum (`bounded`). Newton's method with the step length of generalised self-concordance (Sun and Tran-Dinh 2019,
    theorem 3), which cannot overshoot.
    """
    size = points.shape[-1]
    games, won = points + points.swapaxes(-1, -2), points.sum(-1)
    level = np.full((size, size), 1.0 / size)
    found = np.zeros(points.shape[:-1])
    for _ in range(STEPS):
        chance = _sigmoid(found[..., :, None] - found[..., None, :])
        slope = won - (games * chance).sum(-1) - prior * (_sigmoid(found) - 0.5)
        curvature = games * chance * (1 - chance)
        bend = _laplacian(curvature) + level
        bend[..., np.arange(size), np.arange(size)] += prior * _sigmoid(found) * (1 - _sigmoid(found))
        step = np.linalg.solve(bend, slope[..., None])[..., 0]
        reach = step.max(-1) - step.min(-1)
        length = np.where(reach > 1e-9, np.log1p(reach) / np.maximum(reach, 1e-300), 1.0)
        found = found + length[..., None] * step
        if float(reach.max(initial=0.0)) < TOLERANCE:
            break
    return found - found.mean(-1, keepdims=True)


def covariance(counts: Counts, theta: Array) -> Array:
    """Sandwich covariance (..., M, M) of log-strengths with mean zero: H^-1 (sum of squared scores) H^-1."""
    chance = _sigmoid(theta[..., :, None] - theta[..., None, :])
    bend = _laplacian(counts.games * chance * (1 - chance))
    lost = counts.wins.swapaxes(-1, -2)
    spread = counts.wins * (1 - chance) ** 2 + lost * chance**2 + counts.ties * (0.5 - chance) ** 2
    inverse = np.linalg.inv(bend + 1.0 / bend.shape[-1]) - 1.0 / bend.shape[-1]
    return inverse @ _laplacian(spread) @ inverse


def components(counts: Counts) -> list[list[int]]:
    """Groups of models that no votes join, by index."""
    return _groups(counts.games > 0)


def bounded(counts: Counts) -> Array:
    """Which models have a finite rating (Ford 1957): those of the largest group in which everyone has, over some
    chain of wins and ties, beaten everyone else. All of them, or the maximum of the likelihood lies at infinity."""
    beats = counts.points > 0
    reach = beats | np.eye(len(beats), dtype=bool)
    for _ in range(max(1, math.ceil(math.log2(max(2, len(beats)))))):
        reach = (reach.astype(np.int64) @ reach.astype(np.int64)) > 0
    both = reach & reach.T
    largest = both[int(both.sum(1).argmax())]
    return largest if largest.sum() > 1 or len(beats) == 1 else np.zeros(len(beats), dtype=bool)


@dataclass(frozen=True)
class Rating:
    """One model's place. `low` and `high`: its 95% interval; infinite where it only won or only lost against the
    rest, so that its votes hold no finite rating (`bounded` is False, `rating` then leans on virtual ties)."""

    model: str
    rating: float
    low: float
    high: float
    rank: int
    votes: int
    win_rate: float
    """Mean of wins and half ties over its votes."""
    bounded: bool = True


@dataclass(frozen=True)
class Leaderboard:
    """Ratings, the best first, and how they were found."""

    rows: tuple[Rating, ...]
    votes: int
    intervals: str
    anchor: tuple[str, float] | None = None
    style: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """Of each feature of style: its weight in log-odds per standard deviation, with a 95% interval."""


def bradley_terry(
    votes: Sequence[Vote],
    *,
    anchor: tuple[str, float] | None = None,
    intervals: Intervals = "sandwich",
    level: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Leaderboard:
    """The leaderboard of votes. Raises `LuhuoError` if some models were never compared with the rest, even over
    others, or the anchor is none of them."""
    counts = count(votes)
    check_joined(counts)
    shift_of(anchor, counts.models, np.zeros(len(counts.models)))
    finite = bounded(counts)
    theta = strengths(counts.points, 0.0 if finite.all() else PRIOR)
    if intervals == "bootstrap":
        draws = resampled(counts, seed, resamples)
        tail = (1 - level) / 2
        low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    else:
        half = NormalDist().inv_cdf(0.5 + level / 2) * np.sqrt(np.diagonal(covariance(counts, theta)))
        low, high = theta - half, theta + half
    unsure = ~finite
    low, high = np.where(unsure, -np.inf, low), np.where(unsure, np.inf, high)
    return leaderboard(counts, theta, low, high, intervals, anchor, finite)


def resampled(counts: Counts, seed: int, resamples: int = RESAMPLES) -> Array:
    """Log-strengths (resamples, M) of votes drawn again: multinomial weights over pairs and outcomes.

    A draw in which the likelihood has no finite maximum is held by a small prior, as one vote less would be.
    """
    chance = np.random.default_rng(seed)
    size = len(counts.models)
    first, second = np.triu_indices(size, 1)
    flat = np.concatenate([counts.wins[first, second], counts.wins[second, first], counts.ties[first, second]])
    total, rows = int(flat.sum()), max(1, CHUNK // (size * size))
    found = []
    for start in range(0, resamples, rows):
        drawn = chance.multinomial(total, flat / flat.sum(), size=min(rows, resamples - start)).astype(float)
        won, lost, tied = np.split(drawn, 3, axis=1)
        points = np.zeros((len(drawn), size, size))
        points[:, first, second], points[:, second, first] = won + tied / 2, lost + tied / 2
        found.append(strengths(points, prior=1e-3))
    return np.concatenate(found)


def leaderboard(
    counts: Counts,
    theta: Array,
    low: Array,
    high: Array,
    intervals: str,
    anchor: tuple[str, float] | None = None,
    finite: Array | None = None,
    style: dict[str, tuple[float, float, float]] | None = None,
) -> Leaderboard:
    """Rows of log-strengths with their intervals, in rating points."""
    shift = shift_of(anchor, counts.models, theta)
    places, games, points = ranks(low, high), counts.games.sum(-1), counts.points.sum(-1)
    known = np.ones(len(theta), dtype=bool) if finite is None else finite
    rows = [
        Rating(
            name,
            float(theta[i] * POINTS + shift),
            float(low[i] * POINTS + shift),
            float(high[i] * POINTS + shift),
            int(places[i]),
            int(games[i]),
            float(points[i] / games[i]) if games[i] else math.nan,
            bool(known[i]),
        )
        for i, name in enumerate(counts.models)
    ]
    rows.sort(key=lambda row: (-row.rating, row.model))
    return Leaderboard(tuple(rows), int(games.sum() / 2), intervals, anchor, style or {})


def ranks(low: Array, high: Array) -> Array:
    """1 + the number of models whose lower bound exceeds my upper bound: who cannot be told apart shares a rank."""
    return 1 + (low[None, :] > high[:, None]).sum(1)


def shift_of(anchor: tuple[str, float] | None, models: Sequence[str], theta: Array) -> float:
    """What is added to points so that the anchor has its rating, or the mean is 1000. Raises `LuhuoError`."""
    if anchor is None:
        return CENTRE
    if anchor[0] not in models:
        raise LuhuoError(
            tr("The anchor is none of the models.", "锚定模型不在其中。"), expected=", ".join(models), found=anchor[0]
        )
    return anchor[1] - float(theta[list(models).index(anchor[0])]) * POINTS


def check_joined(counts: Counts) -> None:
    """Raises `LuhuoError` where votes do not join all models: between such groups nothing is known."""
    groups = components(counts)
    if len(groups) > 1:
        told = " | ".join(", ".join(counts.models[i] for i in group) for group in groups)
        raise LuhuoError(
            tr("Some models were never compared with the others.", "有些模型从未与其余模型比较过。"),
            expected=tr("votes that join all models", "能连接所有模型的投票"),
            found=told,
            fix=tr("Rate each group by itself, or collect votes between them.", "分组评分，或收集组间投票。"),
        )


def elo(
    votes: Sequence[Vote], *, k: float = 4.0, start: float = CENTRE, base: float = BASE, scale: float = SCALE
) -> dict[str, float]:
    """Ratings after the votes one by one, in their order, on which they depend (Elo 1978)."""
    found: dict[str, float] = {}
    for vote in votes:
        a, b = found.setdefault(vote.model_a, start), found.setdefault(vote.model_b, start)
        move = k * (vote.score - 1 / (1 + base ** ((b - a) / scale)))
        found[vote.model_a], found[vote.model_b] = a + move, b - move
    return found


def elo_intervals(
    votes: Sequence[Vote], *, k: float = 4.0, start: float = CENTRE, seed: int = 0, resamples: int = 200
) -> dict[str, tuple[float, float, float]]:
    """Median and 95% interval of Elo ratings over votes drawn again, each time in another order."""
    models = sorted({name for vote in votes for name in (vote.model_a, vote.model_b)})
    place = {name: number for number, name in enumerate(models)}
    first = np.array([place[vote.model_a] for vote in votes])
    second = np.array([place[vote.model_b] for vote in votes])
    score = np.array([vote.score for vote in votes])
    chance, row = np.random.default_rng(seed), np.arange(resamples)
    ratings = np.full((resamples, len(models)), start)
    for _ in range(len(votes)):
        drawn = chance.integers(0, len(votes), resamples)
        a, b = first[drawn], second[drawn]
        move = k * (score[drawn] - 1 / (1 + BASE ** ((ratings[row, b] - ratings[row, a]) / SCALE)))
        ratings[row, a] += move
        ratings[row, b] -= move
    low, middle, high = np.quantile(ratings, [0.025, 0.5, 0.975], axis=0)
    return {name: (float(middle[i]), float(low[i]), float(high[i])) for i, name in enumerate(models)}


@dataclass(frozen=True)
class Cell:
    """Two models: votes, the share of points of the first, and what the ratings predict."""

    votes: int
    ties: int
    share: float
    predicted: float


def pair_matrix(votes: Sequence[Vote], board: Leaderboard) -> dict[tuple[str, str], Cell]:
    """For each two models of a leaderboard that met, both ways round."""
    counts = count(votes, [row.model for row in board.rows])
    rating = [row.rating / POINTS for row in board.rows]
    games, points = counts.games, counts.points
    return {
        (a, b): Cell(
            int(games[i, j]),
            int(counts.ties[i, j]),
            float(points[i, j] / games[i, j]),
            float(_sigmoid(np.array(rating[i] - rating[j]))),
        )
        for i, a in enumerate(counts.models)
        for j, b in enumerate(counts.models)
        if i != j and games[i, j]
    }


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(x / 2))


def _laplacian(weights: Array) -> Array:
    """Σ w_ij (e_i - e_j)(e_i - e_j)ᵀ over pairs; the diagonal of `weights` means nothing."""
    size = weights.shape[-1]
    made = -weights * (1 - np.eye(size))
    made[..., np.arange(size), np.arange(size)] = -made.sum(-1)
    return made


def _groups(joined: Array) -> list[list[int]]:
    left, found = set(range(len(joined))), []
    while left:
        edge = {min(left)}
        group: set[int] = set()
        while edge:
            group |= edge
            edge = {int(j) for i in edge for j in np.flatnonzero(joined[i])} - group
        left -= group
        found.append(sorted(group))
    return found
