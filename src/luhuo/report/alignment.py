"""What the report says of alignment: how often a reward model is right about what, and where rollouts spent time."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from luhuo.core.metrics import MetricsLog
from luhuo.report.collect import Part

TIMES = ("time.generate", "time.score", "time.log_probs", "time.update")
"""Seconds of a step as the stages that sample log them."""
EDGE = 0.1
"""Share of a run's rounds whose mean reward is told as that of its start and of its end."""


@dataclass(frozen=True)
class Rollouts:
    """A run that learned from its own answers."""

    name: str
    stage: str
    rounds: int
    first: float
    """Mean reward of the first tenth of the rounds (at least one), and of the last."""
    last: float
    seconds: dict[str, float]
    """What generating, scoring, log-probabilities and updating took in all."""

    @property
    def total(self) -> float:
        """Seconds of all four."""
        return sum(self.seconds.values())

    @property
    def shares(self) -> list[tuple[str, float, float]]:
        """(what, where its part begins, its length), of a bar of length 1."""
        edges = [0.0]
        for value in self.seconds.values():
            edges.append(edges[-1] + value / (self.total or 1.0))
        return [(name, start, end - start) for name, (start, end) in zip(self.seconds, pairwise(edges), strict=True)]


def rollouts(parts: list[Part]) -> list[Rollouts]:
    """The runs whose metrics tell of rounds of samples."""
    found = []
    for part in parts:
        rows = [row for row in MetricsLog(part.path / "metrics.jsonl").read() if "time.update" in row]
        rewards = [row["reward"] for row in rows if row.get("reward") is not None]
        if not rewards or not any("time.generate" in row for row in rows):
            continue
        edge = max(1, round(EDGE * len(rewards)))
        seconds = {name.removeprefix("time."): math.fsum(row.get(name, 0.0) for row in rows) for name in TIMES}
        first, last = (sum(some) / edge for some in (rewards[:edge], rewards[-edge:]))
        found.append(Rollouts(part.name, part.manifest["stage"], len(rewards), first, last, seconds))
    return found


def reward_models(parts: list[Part]) -> list[tuple[str, dict[str, Any]]]:
    """What each reward model's `reward.json` tells, under its name; those that were tested only."""
    files = [(part.name, part.path / "reward.json") for part in parts]
    told = [(name, json.loads(file.read_text(encoding="utf-8"))) for name, file in files if file.is_file()]
    return [(name, found) for name, found in told if found.get("n")]
