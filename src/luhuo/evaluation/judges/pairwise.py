"""Pairs of answers judged in both orders: a side wins that wins both times, everything else is a tie (MT-Bench).

What a verdict lacks is never made up: a pair of which an order has none counts in no win rate, and its reason is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from luhuo.core.language import tr
from luhuo.core.progress import Progress
from luhuo.evaluation.judges.judge import TOGETHER, Judge, Side, side_of
from luhuo.evaluation.judges.verdict import Shown, Verdict
from luhuo.evaluation.votes import Vote, Winner
from luhuo.verify.statistics import wilson


@dataclass(frozen=True)
class Pair:
    """Two models' answers to a conversation, the side of `model_a` first."""

    id: str
    model_a: str
    model_b: str
    shown: Shown


@dataclass(frozen=True)
class Judged:
    """A pair with the verdicts of both orders, as chances that model a's answer is better."""

    pair: Pair
    plain: Verdict
    swapped: Verdict
    """Of the order in which model b's answer came first; its value, too, is model a's chance."""
    outcome: Side | None
    """The side that won both times, "tie", or None where an order has no verdict."""
    consistent: bool
    reason: str = ""

    @property
    def preference(self) -> float | None:
        """Mean chance that model a's answer is better; None without both verdicts."""
        if self.plain.value is None or self.swapped.value is None:
            return None
        return (self.plain.value + self.swapped.value) / 2

    def vote(self, judge: str) -> Vote | None:
        """What a leaderboard counts."""
        if self.outcome is None:
            return None
        winner: Winner = self.outcome
        return Vote(
            self.pair.model_a,
            self.pair.model_b,
            winner,
            judge,
            answers=(self.pair.shown.first, self.pair.shown.second),
        )

    def row(self) -> dict[str, Any]:
        """For a file of JSON lines."""
        shown = self.pair.shown
        return {
            "id": self.pair.id,
            "model_a": self.pair.model_a,
            "model_b": self.pair.model_b,
            "outcome": self.outcome,
            "orders": [self.plain.value, self.swapped.value],
            "consistent": self.consistent,
            "reason": self.reason,
            "lengths": [sum(map(len, shown.first)), sum(map(len, shown.second))],
            "category": shown.meta.get("category"),
            "turn": len(shown.questions),
            "questions": list(shown.questions),
            "answers": [list(shown.first), list(shown.second)],
            "said": [self.plain.text, self.swapped.text],
        }


def judge_pairs(judge: Judge, pairs: Sequence[Pair], tie: float = 0.0) -> list[Judged]:
    """Every pair in both orders. A chance not further from one half than `tie` is a tie."""
    found = []
    with Progress(tr(f"judging: {judge.name}", f"评判：{judge.name}"), len(pairs), tr("pairs", "对")) as progress:
        step = TOGETHER // 2
        for start in range(0, len(pairs), step):
            group = pairs[start : start + step]
            said = judge.say([shown for pair in group for shown in (pair.shown, pair.shown.swapped())])
            found += [_judged(pair, said[2 * i], said[2 * i + 1], tie) for i, pair in enumerate(group)]
            progress.advance(len(group))
    return found


def _judged(pair: Pair, plain: Verdict, swapped: Verdict, tie: float) -> Judged:
    turned = Verdict(None if swapped.value is None else 1 - swapped.value, swapped.reason, swapped.text)
    sides = side_of(plain, tie), side_of(turned, tie)
    if None in sides:
        return Judged(pair, plain, turned, None, False, plain.reason or turned.reason)
    same = sides[0] == sides[1]
    return Judged(pair, plain, turned, sides[0] if same else "tie", same)


@dataclass(frozen=True)
class Bias:
    """What the order does. `first`: of verdicts that name a side, the share that name the one shown first (0.5: no
    favour), with its 95% interval; `consistent`: the share of pairs of which both orders say the same."""

    first: float | None
    low: float
    high: float
    consistent: float | None
    n: int


def position_bias(judged: Iterable[Judged], tie: float = 0.0) -> Bias:
    """The bias of a judge by pairs that have both verdicts."""
    first = decided = same = count = 0
    for one in judged:
        if one.outcome is None:
            continue
        count += 1
        same += one.consistent
        for side, ahead in ((side_of(one.plain, tie), "a"), (side_of(one.swapped, tie), "b")):
            decided += side != "tie"
            first += side == ahead
    low, high = wilson(first, decided)
    return Bias(first / decided if decided else None, low, high, same / count if count else None, count)


def standing(judged: Sequence[Judged]) -> dict[str, Any]:
    """Wins, ties and losses of model a, its win rate with ties as halves, and what could not be judged, by reason."""
    counts = Counter(one.outcome for one in judged if one.outcome is not None)
    lost = Counter(
        (one.plain if one.plain.value is None else one.swapped).kind for one in judged if one.outcome is None
    )
    total = sum(counts.values())
    points = counts["a"] + counts["tie"] / 2
    low, high = wilson(round(points), total)
    return {
        "wins": counts["a"],
        "ties": counts["tie"],
        "losses": counts["b"],
        "win_rate": points / total if total else None,
        "low": low,
        "high": high,
        "n": total,
        "unjudged": len(judged) - total,
        "reasons": dict(sorted(lost.items())),
    }
