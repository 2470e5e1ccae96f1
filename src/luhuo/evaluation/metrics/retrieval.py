"""Retrieval measures of one ranking: nDCG, reciprocal rank, recall, average precision; grades as in trec_eval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Grades = Mapping[str, float]
"""What is known of a query: {document: grade}; not named or grade 0 means not relevant."""


def ndcg(ranking: Sequence[str], grades: Grades, k: int = 10) -> float:
    """Normalised discounted cumulative gain of the first k (Järvelin & Kekäläinen 2002), gain = grade; 0 where
    nothing is relevant."""
    best = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
    ideal = _discounted(best[:k])
    return _discounted([max(grades.get(name, 0.0), 0.0) for name in ranking[:k]]) / ideal if ideal else 0.0


def _discounted(gains: Sequence[float]) -> float:
    return math.fsum(gain / math.log2(place + 2) for place, gain in enumerate(gains))


def reciprocal_rank(ranking: Sequence[str], grades: Grades, k: int = 10) -> float:
    """1 / place of the first relevant document among the first k, else 0."""
    return next((1 / place for place, name in enumerate(ranking[:k], 1) if grades.get(name, 0) > 0), 0.0)


def recall(ranking: Sequence[str], grades: Grades, k: int) -> float:
    """The share of the relevant documents that stand among the first k; 0 where nothing is relevant."""
    relevant = {name for name, grade in grades.items() if grade > 0}
    return len(relevant.intersection(ranking[:k])) / len(relevant) if relevant else 0.0


def average_precision(ranking: Sequence[str], grades: Grades) -> float:
    """The mean of the precision at the place of each relevant document, those not found counting 0."""
    relevant = sum(grade > 0 for grade in grades.values())
    places = [place for place, name in enumerate(ranking, 1) if grades.get(name, 0) > 0]
    return math.fsum((count / place) for count, place in enumerate(places, 1)) / relevant if relevant else 0.0


def measures(ranking: Sequence[str], grades: Grades) -> dict[str, float]:
    """The measures a report shows, of one query."""
    return {
        "ndcg@10": ndcg(ranking, grades, 10),
        "mrr@10": reciprocal_rank(ranking, grades, 10),
        "recall@10": recall(ranking, grades, 10),
        "recall@100": recall(ranking, grades, 100),
        "map": average_precision(ranking, grades),
    }
