"""How far a project is: who judged how much, how often models were preferred, and how far people agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict
from itertools import combinations
from typing import Any

from luhuo.rank.agreement import between, opinions, overall
from luhuo.rank.store import Store
from luhuo.verify.statistics import wilson


def progress(store: Store) -> dict[str, Any]:
    """`items`, `judged` (by anyone), `people` (judgements, verdicts, seconds each), `agreement` of all and of every
    two. Models are not in it: those who judge see this."""
    told = store.judgements()
    people = defaultdict[str, Counter[str]](Counter)
    seconds = defaultdict[str, list[float]](list)
    for judgement in told:
        people[judgement.annotator][judgement.verdict] += 1
        seconds[judgement.annotator].append(judgement.seconds)
    found = opinions(told)
    pairs = [
        {"people": [a, b], **asdict(between(found[a], found[b]))}
        for a, b in combinations(sorted(found), 2)
        if found[a].keys() & found[b].keys()
    ]
    return {
        "items": len(store.numbers()),
        "judged": len({judgement.item for judgement in told}),
        "people": [
            {
                "name": name,
                "judgements": sum(verdicts.values()),
                **{verdict: verdicts[verdict] for verdict in ("ranked", "bad", "skipped")},
                "seconds": sorted(seconds[name])[len(seconds[name]) // 2],
            }
            for name, verdicts in sorted(people.items())
        ],
        "agreement": {**asdict(overall(found)), "pairs": pairs},
    }


def wins(store: Store) -> list[dict[str, Any]]:
    """For every two models, in how many opinions on a pair of their answers each was better, with a 95% interval of
    the first one's share of the decided ones. For those who own the project."""
    models = {answer.id: answer.model for item in store.items() for answer in item.answers}
    found = defaultdict[tuple[str, str], Counter[str]](Counter)
    for mine in opinions(store.judgements()).values():
        for (_, a, b), opinion in mine.items():
            if models[a] == models[b]:
                continue
            swapped = models[a] > models[b]
            pair = (models[b], models[a]) if swapped else (models[a], models[b])
            turned = {"first": "second", "second": "first"}.get(opinion, opinion) if swapped else opinion
            found[pair][turned] += 1
    rows = []
    for (a, b), counts in sorted(found.items()):
        decided = counts["first"] + counts["second"]
        low, high = wilson(counts["first"], decided)
        rows.append({"models": [a, b], "wins": [counts["first"], counts["second"]], "ties": counts["tie"]})
        rows[-1] |= {"share": counts["first"] / decided if decided else None, "low": low, "high": high}
    return rows
