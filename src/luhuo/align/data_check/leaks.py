"""Questions of an evaluation set in the training data: the same question, or most of a long one inside a row."""

from __future__ import annotations

from collections import Counter, defaultdict

from luhuo.align.data_check.repeats import key_of
from luhuo.corpus.decontaminate.ngrams import gram_hashes, units_of

WORDS = 13
"""Consecutive words that two texts hardly share by chance (Brown et al. 2020, appendix C); a Chinese character is
one."""
SHARE = 0.7
"""Of the runs of an evaluation question that a training row must hold."""


class Leaks:
    """Remembers an evaluation set, and finds its questions in other rows. Memory grows with the evaluation set."""

    def __init__(self) -> None:
        self._questions: dict[int, int] = {}
        self._runs: dict[int, list[int]] = defaultdict(list)
        self._sizes: dict[int, int] = {}

    def remember(self, question: str, number: int) -> None:
        """Add a question of the evaluation set."""
        self._questions.setdefault(key_of(question), number)
        runs = _runs(question)
        if runs:
            self._sizes[number] = len(runs)
            for run in runs:
                self._runs[run].append(number)

    def find(self, question: str, whole: str) -> int | None:
        """The number of the evaluation question that a row asks, or holds in its `whole` text, or None."""
        same = self._questions.get(key_of(question))
        if same is not None or not self._runs:
            return same
        shared = Counter(number for run in _runs(whole) for number in self._runs.get(run, ()))
        found = [number for number, count in shared.items() if count >= SHARE * self._sizes[number]]
        return min(found) if found else None


def _runs(text: str) -> set[int]:
    """Hashes of all runs of `WORDS` words; none for a shorter text."""
    return set(gram_hashes(units_of(text).hashes, WORDS).tolist())
