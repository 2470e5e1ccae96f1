"""What one request has written so far, as the penalties see it: distinct tokens and how often each was generated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from luhuo.inference.sampling import Sampling


class History:
    """Distinct tokens of prompt and answer with the count of each in the answer; constant work a token."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self._ids = np.unique(np.asarray(prompt, dtype=np.int64))
        self._counts = np.zeros(len(self._ids), dtype=np.float32)
        self._used = len(self._ids)
        self._place = {int(token): i for i, token in enumerate(self._ids)}

    @property
    def ids(self) -> np.ndarray:
        """Distinct tokens (k,) int64."""
        return self._ids[: self._used]

    @property
    def counts(self) -> np.ndarray:
        """How often each of `ids` is in the answer (k,) float32; 0 for those of the prompt only."""
        return self._counts[: self._used]

    def add(self, token: int) -> None:
        """Count a generated token."""
        place = self._place.get(token)
        if place is None:
            if self._used == len(self._ids):
                room = max(64, self._used)
                self._ids = np.concatenate([self._ids, np.zeros(room, dtype=np.int64)])
                self._counts = np.concatenate([self._counts, np.zeros(room, dtype=np.float32)])
            place = self._place[token] = self._used
            self._ids[place] = token
            self._used += 1
        self._counts[place] += 1


def is_penalised(sampling: Sampling) -> bool:
    """Whether these settings look at the history."""
    return sampling.repetition_penalty != 1 or bool(sampling.presence_penalty or sampling.frequency_penalty)
