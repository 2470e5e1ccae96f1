"""What a reward model has to beat: judges that see how long an answer is, or which tokens it has, and nothing else.

Both are logistic regressions on the difference of two answers' features (Bradley and Terry 1952): a judge that prefers
longer answers, or words that good answers use, without a look at the question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from luhuo.align.reward_data import Comparison

STEPS, RATE = 300, 0.1
PENALTY = 1.0
"""Of the squared weights, against the sum of the pairs' losses."""
Features = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Ids of an answer to the numbers of its features and their values."""


def length_features(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens, and their logarithm."""
    return np.array([0, 1]), np.array([len(ids) / 100, np.log1p(len(ids))])


def word_features(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often each token stands in the answer."""
    tokens, counts = np.unique(ids, return_counts=True)
    return tokens.astype(np.int64), counts.astype(np.float64)


BASELINES: dict[str, Features] = {"length": length_features, "words": word_features}


def baseline_leads(train: Sequence[Comparison], test: Sequence[Comparison], features: Features) -> np.ndarray:
    """Leads of the better answer in each pair of `test`, by a judge that has learned from `train`."""
    rows, columns, values, count = _differences(train, features)
    rows_test, columns_test, values_test, count_test = _differences(test, features)
    size = int(max(columns.max(initial=0), columns_test.max(initial=0))) + 1
    weights = _fit(rows, columns, values, count, size)
    return np.bincount(rows_test, values_test * weights[columns_test], minlength=count_test)


def _differences(items: Sequence[Comparison], features: Features) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Features of the better answer minus those of the worse, as (pair, feature, value) triples."""
    rows, columns, values, pair = [], [], [], 0
    for item in items:
        ends = zip(item.ids, item.answers, strict=True)
        made = [features(np.asarray(ids[len(ids) - answer :])) for ids, answer in ends]
        for better, worse, _ in item.pairs:
            for sign, text in ((1.0, better), (-1.0, worse)):
                numbers, counts = made[text]
                rows.append(np.full(len(numbers), pair))
                columns.append(numbers)
                values.append(sign * counts)
            pair += 1
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(values), pair


def _fit(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, count: int, size: int) -> np.ndarray:
    """Weights of the penalised logistic regression whose every pair is won by the first; Adam over all pairs."""
    weights, first, second = np.zeros(size), np.zeros(size), np.zeros(size)
    for step in range(1, STEPS + 1):
        lead = np.bincount(rows, values * weights[columns], minlength=count)
        pull = 1 / (1 + np.exp(np.clip(lead, -60, 60)))  # how far each pair is from won
        gradient = (PENALTY * weights - np.bincount(columns, values * pull[rows], minlength=size)) / count
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        rate = RATE * (1 - step / (STEPS + 1))
        weights -= rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-12)
    return weights
