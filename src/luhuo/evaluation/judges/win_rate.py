"""Win rates against a baseline: raw, discrete, and at equal length (AlpacaEval 2, Dubois et al. 2024).

The length-controlled rate is what the win rate would be if all answers were as long as the baseline's. A logistic
model of the judge's preferences explains them by the answering model, by tanh(length difference / its spread), and by
how hard the instruction is; the rate is its mean prediction at equal length.

What differs from the published estimator: its difficulties and the gamed copies of the baseline that hold its
regression in place are in no public data. Here the difficulty of an instruction is what the judgements of *other*
models on it say (so that no model explains itself), and the taste for length is held near the one that these show, as
it is the judge's and not the model's. Without other models both are unknown, and the weight of length leans on zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.records import Broken
from luhuo.files.structured import read_rows

Array = np.ndarray
STEPS, TOLERANCE = 100, 1e-10
HARD = 0.3
"""Ridge on instructions' difficulties, as if each were drawn with a variance of 1 / 0.3."""
NEAR = 0.25
"""How far (one standard deviation) a model's taste for length, and its weight of difficulty, may lie from all's."""
ALONE = 1.0
"""The same for a model whose judge is known by nothing else."""
RESAMPLES = 200
MOVED = 0.10
"""A change by length control of more than 10 points, or a quarter, is pointed out."""


@dataclass(frozen=True)
class Annotation:
    """One judged pair: how likely the model's answer beats the baseline's, and both lengths (in any one unit).

    `preference` None: the judge gave no verdict, or a tie; AlpacaEval counts either as one half.
    """

    item: str
    preference: float | None
    model_length: float
    baseline_length: float


@dataclass(frozen=True)
class WinRate:
    """In percent: the mean preference, its standard error, the share of pairs decided for the model (draws half)."""

    win_rate: float
    standard_error: float
    discrete: float
    wins: int
    losses: int
    draws: int
    n: int


def win_rate(annotations: Sequence[Annotation]) -> WinRate:
    """Raw and discrete win rate. Raises `LuhuoError` without an annotation."""
    if not annotations:
        raise LuhuoError(tr("There is no judged pair.", "没有评判过的回答对。"))
    given = [one.preference for one in annotations]
    values = np.array([0.5 if value is None else value for value in given])
    wins = sum(value is not None and value > 0.5 for value in given)
    draws = sum(value is None or value == 0.5 for value in given)
    spread = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return WinRate(
        100 * float(values.mean()),
        100 * spread,
        100 * (wins + draws / 2) / len(values),
        wins,
        len(values) - wins - draws,
        draws,
        len(values),
    )


@dataclass(frozen=True)
class LengthControlled:
    """The win rate at equal length in percent, its bootstrap standard error, and the weights behind it."""

    win_rate: float
    standard_error: float
    length_weight: float
    """Log-odds that the longest answers gain over equally long ones, other things equal."""
    difficulty_weight: float
    others: int
    """Other models that the difficulties and the judge's taste come from."""
    moved: bool
    """Whether it lies so far from the raw rate that one should look at the answers before believing either."""


def length_controlled(
    annotations: Sequence[Annotation], others: Sequence[Sequence[Annotation]] = (), seed: int = 0
) -> LengthControlled:
    """The rate at equal length; `others` are annotations of further models by the same judge and baseline.

    Raises `LuhuoError` without an annotation.
    """
    raw = win_rate(annotations).win_rate
    pooled = _pooled(others)
    score = np.array([0.5 if one.preference is None else one.preference for one in annotations])
    hard = np.array([pooled.difficulty.get(one.item, 0.0) for one in annotations])
    design = np.stack([np.ones(len(score)), _lengths(annotations), hard], axis=1)
    middle = np.array([0.0, pooled.length, 1.0])
    penalty = np.array([1e-6, *([1 / NEAR**2] * 2 if others else [1 / ALONE**2] * 2)])
    weights = _logistic(design, score, np.ones((1, len(score))), middle, penalty)[0]
    chance = np.random.default_rng(seed)
    drawn = chance.multinomial(len(score), np.full(len(score), 1 / len(score)), size=RESAMPLES).astype(float)
    again = _logistic(design, score, drawn, middle, penalty)
    rates = [_rate(row, hard, counts) for row, counts in zip(again, drawn, strict=True)]
    found = _rate(weights, hard, np.ones(len(score)))
    moved = abs(found - raw) > 100 * MOVED or abs(found - raw) > raw / 4
    return LengthControlled(
        found, float(np.std(rates, ddof=1)), float(weights[1]), float(weights[2]), len(others), moved
    )


@dataclass(frozen=True)
class _Pooled:
    length: float
    difficulty: Mapping[str, float]


def _pooled(models: Sequence[Sequence[Annotation]]) -> _Pooled:
    """One taste for length and one difficulty of each instruction, of all given models together."""
    if not models:
        return _Pooled(0.0, {})
    place = {item: number for number, item in enumerate(sorted({one.item for model in models for one in model}))}
    owner = np.concatenate([np.full(len(model), number) for number, model in enumerate(models)])
    item = np.array([place[one.item] for model in models for one in model])
    length = np.concatenate([_lengths(model) for model in models])
    score = np.array([0.5 if one.preference is None else one.preference for model in models for one in model])
    few = len(models) + 1  # a strength of each model, and the weight of length
    design = np.zeros((len(score), few))
    design[np.arange(len(score)), owner] = 1
    design[:, -1] = length
    hard, weights, ridge = np.zeros(len(place)), np.zeros(few), np.full(few, 1e-3)
    for _ in range(STEPS):
        chance = _sigmoid(design @ weights + hard[item])
        bend, left = chance * (1 - chance), score - chance
        # Difficulties are many and alone in their rows: they are eliminated (a Schur complement), not inverted.
        own = np.bincount(item, bend, len(place)) + HARD
        cross = np.stack([np.bincount(item, bend * design[:, k], len(place)) for k in range(few)])
        slope, steep = design.T @ left - ridge * weights, np.bincount(item, left, len(place)) - HARD * hard
        whole = (design * bend[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(whole - (cross / own) @ cross.T, slope - cross @ (steep / own))
        rest = (steep - cross.T @ step) / own
        weights, hard = weights + step, hard + rest
        if max(np.abs(step).max(), np.abs(rest).max()) < TOLERANCE:
            break
    return _Pooled(float(weights[-1]), {name: float(hard[number]) for name, number in place.items()})


def _logistic(design: Array, score: Array, counts: Array, middle: Array, penalty: Array) -> Array:
    """Weights (draws, K) of logistic regressions held near `middle`, of the same rows counted as in each draw."""
    found = np.tile(middle, (len(counts), 1))
    for _ in range(STEPS):
        chance = _sigmoid(found @ design.T)
        slope = (counts * (score - chance)) @ design - penalty * (found - middle)
        bend = np.einsum("dn,nk,nl->dkl", counts * chance * (1 - chance), design, design) + np.diag(penalty)
        step = np.linalg.solve(bend, slope[..., None])[..., 0]
        reach = np.abs(step @ design.T).max(1)
        found = found + (np.where(reach > 1e-9, np.log1p(reach) / np.maximum(reach, 1e-300), 1.0))[:, None] * step
        if float(reach.max()) < TOLERANCE:
            break
    return found


def _rate(weights: Array, hard: Array, counts: Array) -> float:
    return 100 * float((_sigmoid(weights[0] + weights[2] * hard) * counts).sum() / counts.sum())


def _lengths(annotations: Sequence[Annotation]) -> Array:
    """tanh of the length difference over its spread; zero where all are equally long."""
    apart = np.array([one.model_length - one.baseline_length for one in annotations], dtype=np.float64)
    spread = apart.std()
    return np.tanh(apart / spread) if spread > 0 else np.zeros(len(apart))


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(x / 2))


def read_annotations(path: str | Path) -> list[Annotation]:
    """Annotations in AlpacaEval's layout: `preference` from 1 (baseline) to 2 (model), 0 or 1.5 a draw, null none.

    Lengths are `len_1`, `len_2`, or those of `output_1`, `output_2`. Raises `LuhuoError` for another layout.
    """
    file, found = Path(path), []
    if not file.is_file():
        raise LuhuoError(tr("There is no such file.", "没有这个文件。"), where=path)
    for number, row in enumerate(read_rows(file)):
        value = None if isinstance(row, Broken) else row.value
        try:
            given = value["preference"]  # type: ignore[index]
            lengths = [float(value.get(f"len_{k}", len(str(value.get(f"output_{k}", ""))))) for k in (1, 2)]  # type: ignore[union-attr]
            name = value.get("index", value.get("instruction", number))  # type: ignore[union-attr]
            preference = None if given is None or given in (0, 1.5) else float(given) - 1
            if preference is not None and not 0 <= preference <= 1:
                raise ValueError(f"preference {given}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LuhuoError(
                tr("This is no annotation.", "这不是一条标注。"),
                expected="preference (1 … 2), len_1, len_2",
                found=str(error)[:200],
                where=tr(f"{file}, row {number + 1}", f"{file} 第 {number + 1} 行"),
            ) from None
        found.append(Annotation(str(name), preference, lengths[1], lengths[0]))
    return found
