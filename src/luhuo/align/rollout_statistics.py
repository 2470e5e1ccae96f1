"""What a round of samples looks like from outside: scores, lengths, endings, and groups that teach nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from luhuo.align.rollout import Sample

EQUAL = 1e-9
"""Scores of a group that differ by less are called equal."""


@dataclass(frozen=True)
class Outcome:
    """How one sample came out. `score` NaN: it could not be scored."""

    score: float
    length: int
    """Sampled tokens."""
    ended: bool
    """The policy ended its answer itself."""
    sample: Sample | None = None
    """Only in the process that drew it."""


@dataclass(frozen=True)
class Group:
    """All samples of one prompt, under the prompt's number."""

    number: int
    outcomes: list[Outcome]

    @property
    def teaches(self) -> bool:
        """Whether two samples have different scores."""
        scores = [outcome.score for outcome in self.outcomes if not math.isnan(outcome.score)]
        return len(scores) > 1 and max(scores) - min(scores) > EQUAL


def summary(groups: Sequence[Group]) -> dict[str, float]:
    """Statistics over all samples that were drawn, before any group was left out.

    `reward` (mean), `reward_deviation` (within groups), `unscored`, `zero_variance` (share of groups
    whose scores are all equal), `length` (mean, in sampled tokens), `length_correlation` (of score and length within
    groups, so that hard prompts with long answers do not pass for a reward of length), `eos` (share of answers that
    ended themselves) and `truncated` (the others). Where every prompt has one sample, all are one group here, and
    there is no `zero_variance`.
    """
    outcomes = [outcome for group in groups for outcome in group.outcomes]
    scores, lengths = (np.array([getattr(o, name) for o in outcomes], np.float64) for name in ("score", "length"))
    known = ~np.isnan(scores)
    ended = float(np.mean([outcome.ended for outcome in outcomes]))
    told = {
        "reward": float(scores[known].mean()) if known.any() else math.nan,
        "unscored": 1 - float(known.mean()),
        "length": float(lengths.mean()),
        "eos": ended,
        "truncated": 1 - ended,
    }
    alone = all(len(group.outcomes) == 1 for group in groups)
    if not alone:
        told["zero_variance"] = float(np.mean([not group.teaches for group in groups]))
    inside = [_centred(group) for group in ([Group(-1, outcomes)] if alone else groups)]
    score, length = (np.concatenate([pair[i] for pair in inside]) for i in (0, 1))
    told["reward_deviation"] = float(np.sqrt(np.mean(score**2))) if len(score) else 0.0
    spread = math.sqrt(float((score**2).sum() * (length**2).sum()))
    if spread > 0:
        told["length_correlation"] = float((score * length).sum()) / spread
    return told


def _centred(group: Group) -> tuple[np.ndarray, np.ndarray]:
    """Scores and lengths of a group's scored samples, minus their means."""
    pairs = [(outcome.score, outcome.length) for outcome in group.outcomes if not math.isnan(outcome.score)]
    table = np.array(pairs, np.float64).reshape(-1, 2)
    table = table - table.mean(0) if len(table) else table
    return table[:, 0], table[:, 1]


def means(sums: Iterable[Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """Means by name from (sum, number) by name, of several processes or attempts."""
    totals: dict[str, list[float]] = {}
    for one in sums:
        for name, (value, count) in one.items():
            total = totals.setdefault(name, [0.0, 0.0])
            total[0] += value
            total[1] += count
    return {name: value / count for name, (value, count) in sorted(totals.items()) if count}
