"""The leaderboard of an arena: ratings with intervals and ranks, the matrix of pairs, and what was left out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.evaluation.ratings import (
    Intervals,
    Leaderboard,
    bradley_terry,
    components,
    count,
    elo,
    pair_matrix,
    shift_of,
)
from luhuo.evaluation.style import style_controlled
from luhuo.evaluation.votes import Cleaning, Vote, reveals


def board(
    votes: Iterable[Vote],
    *,
    style: bool = False,
    cleaning: Cleaning | None = None,
    names: Sequence[str] = (),
    intervals: Intervals = "sandwich",
    anchor: tuple[str, float] | None = None,
) -> dict[str, Any]:
    """JSON of a leaderboard. Votes on answers that name a model (or one of `names`) do not count. `anchor` is a model
    with its rating, in the group that it is in.

    Models that votes do not join to the rest are rated in groups of their own: `groups` has one table each.
    """
    told = Counter[str]()
    rules = cleaning or Cleaning()
    kept = [vote for vote in votes if _counts(vote, rules, names, told)]
    if not kept:
        return {"votes": 0, "left_out": dict(told), "groups": [], "elo": {}}
    counts = count(kept)
    if anchor:
        shift_of(anchor, counts.models, np.zeros(len(counts.models)))  # says where there is no such model
    groups = []
    for group in components(counts):
        models = {counts.models[i] for i in group}
        mine = [vote for vote in kept if vote.model_a in models]
        groups.append(_group(mine, style, intervals, anchor if anchor and anchor[0] in models else None))
    groups.sort(key=lambda one: -one["votes"])
    return {"votes": len(kept), "left_out": dict(told), "groups": groups, "elo": elo(kept)}


def _counts(vote: Vote, rules: Cleaning, names: Sequence[str], told: Counter[str]) -> bool:
    texts = [text for side in vote.answers for text in side]
    named = rules.identity and (
        reveals(texts) or any(name.lower() in text.lower() for name in names for text in texts)
    )
    reason = "banned" if vote.judge in rules.banned_judges else "identity" if named else ""
    if reason:
        told[reason] += 1
    return not reason


def _group(
    votes: Sequence[Vote], style: bool, intervals: Intervals, anchor: tuple[str, float] | None
) -> dict[str, Any]:
    note, found = "", bradley_terry(votes, intervals=intervals, anchor=anchor)
    if style:
        try:
            found = style_controlled(votes, anchor=anchor)
        except LuhuoError as error:
            note = str(error)
    return {
        "votes": found.votes,
        "rows": [
            {
                "model": row.model,
                "rank": row.rank,
                "rating": row.rating,
                "low": _finite(row.low),
                "high": _finite(row.high),
                "votes": row.votes,
                "win_rate": row.win_rate,
            }
            for row in found.rows
        ],
        "matrix": _matrix(votes, found),
        "style": {name: list(values) for name, values in found.style.items()},
        "note": note,
    }


def _matrix(votes: Sequence[Vote], found: Leaderboard) -> list[dict[str, Any]]:
    return [
        {
            "model": a,
            "against": b,
            "votes": cell.votes,
            "ties": cell.ties,
            "share": cell.share,
            "predicted": cell.predicted,
        }
        for (a, b), cell in pair_matrix(votes, found).items()
    ]


def _finite(value: float) -> float | None:
    """JSON knows no infinity: None is a bound that the votes do not give."""
    return value if math.isfinite(value) else None
