"""Judges judged: how far each agrees with people, with what favour for a place or a length, at what cost.

Agreement is with the label most people gave (where there is one), in plain share and as Cohen's kappa, and beside it
how far people agree among themselves: that is what a judge can reach. A pair is shown in both orders and the judge's
outcome is that of `pairwise`; what it could not judge counts as not agreeing in `accuracy_all` and is left out of the
other figures, whose `n` says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

from luhuo.evaluation.agreement import Interval, cohen_kappa, fleiss_kappa, interval, majority
from luhuo.evaluation.judges.human import HumanSet, Opinion
from luhuo.evaluation.judges.judge import Judge
from luhuo.evaluation.judges.pairwise import Judged, Pair, judge_pairs, position_bias
from luhuo.evaluation.judges.verdict import Verdict
from luhuo.verify.statistics import wilson

Label = Hashable
Labels = Sequence[Label | None]


def validate(judge: Judge, group: HumanSet, tie: float = 0.0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(one row of the table, what was said of each item)."""
    if group.form == "pairwise":
        pairs = [Pair(one.id, "1", "2", one.shown) for one in group.items]
        judged = judge_pairs(judge, pairs, tie)
        labels: list[Label | None] = [one.outcome for one in judged]
        reasons = [
            (one.plain if one.plain.value is None else one.swapped).kind for one in judged if one.outcome is None
        ]
        bias = asdict(position_bias(judged, tie)) | {"length": length_bias(judged, group)}
        said = [{"id": o.id, "labels": list(o.labels), **j.row()} for o, j in zip(group.items, judged, strict=True)]
        for row in said:  # texts are in the set already
            row.pop("questions")
            row.pop("answers")
    else:
        verdicts = judge.say([one.shown for one in group.items])
        labels = [None if one.value is None else one.value > 0.5 for one in verdicts]
        reasons = [one.kind for one in verdicts if one.value is None]
        bias = None
        said = [_told(one, verdict) for one, verdict in zip(group.items, verdicts, strict=True)]
    row = {"judge": judge.name, "set": group.name, **agreement(labels, group.items), "bias": bias}
    return row | {"reasons": dict(Counter(reasons)), "cost": asdict(judge.cost), "identity": judge.identity}, said


def _told(one: Opinion, verdict: Verdict) -> dict[str, Any]:
    told = {"id": one.id, "labels": list(one.labels), "chance": verdict.value}
    return told | {"reason": verdict.reason, "said": verdict.text}


def recorded(group: HumanSet) -> list[dict[str, Any]]:
    """Rows of judges whose verdicts come with a set; they were shown each pair in one order only."""
    names = sorted({name for one in group.items for name in one.recorded})
    return [
        {"judge": f"{name} (recorded)", "set": group.name}
        | agreement([one.recorded.get(name) for one in group.items], group.items)
        | {"bias": None, "reasons": {}, "cost": None, "identity": None}
        for name in names
    ]


def agreement(labels: Labels, items: Sequence[Opinion]) -> dict[str, Any]:
    """How far a judge's labels agree with the people's majority, and people with each other."""
    wanted = [majority(one.labels) for one in items]
    known = [(label, want) for label, want in zip(labels, wanted, strict=True) if want is not None]
    pairs = [(label, want) for label, want in known if label is not None]
    right = sum(label == want for label, want in pairs)
    low, high = wilson(right, len(pairs))
    decided = [(label, want) for label, want in pairs if "tie" not in (label, want)]
    return {
        "n": len(pairs),
        "items": len(items),
        "unjudged": sum(label is None for label in labels),
        "without_majority": len(items) - len(known),
        "accuracy": right / len(pairs) if pairs else None,
        "accuracy_low": low,
        "accuracy_high": high,
        "accuracy_all": right / len(known) if known else None,
        "without_ties": sum(a == b for a, b in decided) / len(decided) if decided else None,
        "kappa": asdict(interval(pairs, cohen_kappa)),
        "with_each": with_each(labels, items),
        "people": people(items),
    }


def with_each(labels: Labels, items: Sequence[Opinion]) -> float | None:
    """Mean kappa of the judge with each person."""
    count = min(len(one.labels) for one in items)
    pairs = [
        [(label, one.labels[who]) for label, one in zip(labels, items, strict=True) if label is not None]
        for who in range(count)
    ]
    known = [value for value in map(cohen_kappa, pairs) if value is not None]
    return sum(known) / len(known) if known else None


def people(items: Sequence[Opinion]) -> dict[str, Any]:
    """How far people agree: Fleiss' kappa, and the mean of Cohen's over every two of them."""
    count = min(len(one.labels) for one in items)
    if count < 2:
        return {"raters": count, "fleiss": None, "cohen": None}
    sides = [one.labels[:count] for one in items]
    two = [cohen_kappa([(one[a], one[b]) for one in sides]) for a, b in combinations(range(count), 2)]
    known = [value for value in two if value is not None]
    found: Interval = interval(sides, fleiss_kappa, resamples=200)
    return {"raters": count, "fleiss": asdict(found), "cohen": sum(known) / len(known) if known else None}


def length_bias(judged: Sequence[Judged], group: HumanSet) -> dict[str, Any]:
    """Of decided pairs of unequal length, how often the longer answer won with the judge, and with people."""

    def share(outcomes: Sequence[Any]) -> float | None:
        longer = [
            (sum(map(len, one.shown.first)) > sum(map(len, one.shown.second))) == (outcome == "a")
            for one, outcome in zip(group.items, outcomes, strict=True)
            if outcome in ("a", "b") and sum(map(len, one.shown.first)) != sum(map(len, one.shown.second))
        ]
        return sum(longer) / len(longer) if longer else None

    return {
        "judge": share([one.outcome for one in judged]),
        "people": share([majority(one.labels) for one in group.items]),
    }


def between(said: Mapping[str, Labels]) -> list[dict[str, Any]]:
    """Kappa of every two judges on what both judged, and Fleiss' of all on what all did."""
    rows: list[dict[str, Any]] = []
    for a, b in combinations(sorted(said), 2):
        pairs = [(x, y) for x, y in zip(said[a], said[b], strict=True) if x is not None and y is not None]
        rows.append({"judges": [a, b], **asdict(interval(pairs, cohen_kappa, resamples=200))})
    whole = [row for row in zip(*said.values(), strict=True) if all(one is not None for one in row)]
    if len(said) > 2 and whole:
        rows.append({"judges": sorted(said), **asdict(interval(whole, fleiss_kappa, resamples=200))})
    return rows
