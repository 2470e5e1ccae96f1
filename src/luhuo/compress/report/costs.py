"""How long a candidate will take: guessed at first, then from what the others took."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from luhuo.compress.report.candidates import Candidate, Step

PASSES = {True: 6.0, False: 1.0}
"""Before anything is measured: how often a method goes through the calibration text, or without text through as much
time as one pass would take, to read, round and write."""
LEAST_S = 2.0


@dataclass
class Costs:
    """Seconds. `reading` is one pass of the original over the calibration text."""

    reading: float
    made: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    measured: list[float] = field(default_factory=list)

    def add(self, step: Step, seconds: float) -> None:
        """What a step took."""
        self.made.setdefault(step.kind, []).append(seconds)

    def of_step(self, step: Step) -> float:
        """What a step will take: as the same method did, or else the guess as far off as it was for others."""
        if step.kind in self.made:
            return statistics.median(self.made[step.kind])
        return LEAST_S + self._guess(step.reads) * self._factor(step.reads)

    def of(self, candidate: Candidate, done: set[tuple[Step, ...]]) -> float:
        """What a candidate will take, with measuring it; first steps that are `done` cost nothing."""
        ends = range(1, len(candidate.steps) + 1)
        making = [self.of_step(candidate.steps[n - 1]) for n in ends if candidate.steps[:n] not in done]
        return sum(making) + self.measuring()

    def measuring(self) -> float:
        """What measuring a model takes."""
        return statistics.median(self.measured) if self.measured else 2 * self.reading

    def _guess(self, reads: bool) -> float:
        return PASSES[reads] * self.reading

    def _factor(self, reads: bool) -> float:
        """How far off the guesses were for methods of this sort, the dearest: a new one may be as slow."""
        known = [statistics.median(taken) for taken in self.made.values()]
        guess = max(self._guess(reads), 1e-9)
        return max(1.0, max(known, default=0.0) / guess) if reads else 1.0
