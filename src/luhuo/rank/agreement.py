"""How much people agree: Cohen's kappa (1960) of every two, and over all of them, on pairs of answers.

A ranking says of each pair of answers which is better, or that they tie; two people are compared on the pairs both
judged. Kappa is what they agree beyond what two people who do not look would agree by chance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from luhuo.evaluation.agreement import cohen_kappa as kappa
from luhuo.rank.store import Judgement

RESAMPLES = 1000
Pair = tuple[int, int, int]
"""Item, and two of its answers, the smaller number first."""


@dataclass(frozen=True)
class Agreement:
    """Kappa with a 95% interval (items drawn again), the plain share of equal opinions, and on how many pairs."""

    kappa: float | None
    low: float | None
    high: float | None
    share: float | None
    n: int


def opinions(judgements: Iterable[Judgement]) -> dict[str, dict[Pair, str]]:
    """By person and pair: "first", "second" or "tie". Of answers that are all bad, every pair is a tie; items that
    were skipped say nothing, and of those called bad the pairs are only known where someone else ranked them."""
    found = defaultdict[str, dict[Pair, str]](dict)
    held = list(judgements)
    answers = {one.item: sorted(one.ranks) for one in held if one.verdict == "ranked"}
    for one in held:
        if one.verdict == "skipped":
            continue
        for a, b in combinations(answers.get(one.item, ()), 2):
            lead = one.ranks[b] - one.ranks[a] if one.verdict == "ranked" else 0
            found[one.annotator][one.item, a, b] = "first" if lead > 0 else "second" if lead < 0 else "tie"
    return dict(found)


def between(a: Mapping[Pair, str], b: Mapping[Pair, str], seed: int = 0) -> Agreement:
    """Agreement of two people."""
    return _agreement([(pair[0], a[pair], b[pair]) for pair in sorted(a.keys() & b.keys())], seed)


def overall(found: Mapping[str, Mapping[Pair, str]], seed: int = 0) -> Agreement:
    """Agreement of all people: every two of them together, in both directions, so that nobody comes first."""
    rows = [
        (pair[0], one[pair], other[pair])
        for a, b in combinations(sorted(found), 2)
        for one, other in ((found[a], found[b]), (found[b], found[a]))
        for pair in sorted(one.keys() & other.keys())
    ]
    told = _agreement(rows, seed)
    return Agreement(told.kappa, told.low, told.high, told.share, told.n // 2)


def _agreement(rows: Sequence[tuple[int, str, str]], seed: int) -> Agreement:
    pairs = [(a, b) for _, a, b in rows]
    if not pairs:
        return Agreement(None, None, None, None, 0)
    by_item = defaultdict[int, list[tuple[str, str]]](list)
    for item, a, b in rows:
        by_item[item].append((a, b))
    groups, chance = list(by_item.values()), np.random.default_rng(seed)
    drawn = (
        kappa([pair for i in chance.integers(0, len(groups), len(groups)) for pair in groups[i]])
        for _ in range(RESAMPLES)
    )
    known = [value for value in drawn if value is not None]
    low, high = (float(x) for x in np.quantile(known, [0.025, 0.975])) if known else (None, None)
    return Agreement(kappa(pairs), low, high, sum(a == b for a, b in pairs) / len(pairs), len(pairs))
