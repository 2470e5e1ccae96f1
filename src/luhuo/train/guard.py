"""What to do with a step whose loss is not finite, or far above the ones before."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import Any, Literal

WINDOW = 64
"""Losses that say what is usual."""
ENOUGH = 32
"""With fewer, nothing is called a spike."""
IN_A_ROW = 3
"""Batches passed over before the state itself is doubted."""

Verdict = Literal["take", "skip", "back", "stop"]


class LossGuard:
    """A bad batch is passed over; several in a row mean that the weights are bad, and the run goes back.

    `spike`: a loss that many robust standard deviations (at least 0.1 nats each) above the median of the last ones is
    bad, like one that is not finite; 0: only the latter. After `rollbacks` returns the run stops. A loss that stays
    high but finite after a return is the data's, and is taken as usual from then on.
    """

    def __init__(self, spike: float, rollbacks: int) -> None:
        self.spike, self.rollbacks = spike, rollbacks
        self.losses: deque[float] = deque(maxlen=WINDOW)
        self.skipped = self.returned = 0
        self.doubted = False

    def limit(self) -> float:
        """The highest loss that is not a spike."""
        if not self.spike or len(self.losses) < ENOUGH:
            return math.inf
        middle = statistics.median(self.losses)
        spread = 1.4826 * statistics.median(abs(loss - middle) for loss in self.losses)
        return middle + self.spike * max(0.1, spread)

    def judge(self, loss: float, norm: float) -> Verdict:
        """Take the step, skip its batch, go back to the last checkpoint, or stop."""
        finite = math.isfinite(loss) and math.isfinite(norm)
        if finite and loss <= self.limit():
            self.skipped, self.doubted = 0, False
            self.losses.append(loss)
            return "take"
        self.skipped += 1
        if self.skipped <= IN_A_ROW:
            return "skip"
        self.skipped = 0
        if finite and self.doubted:
            self.losses.clear()
            self.doubted = False
            return "take"
        if self.returned == self.rollbacks:
            return "stop"
        self.returned += 1
        self.doubted = True
        return "back"

    def state(self) -> dict[str, Any]:
        """JSON value to continue from."""
        counts = {"skipped": self.skipped, "returned": self.returned, "doubted": self.doubted}
        return {"losses": list(self.losses), **counts}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.losses.clear()
        self.losses.extend(state["losses"])
        self.skipped, self.returned, self.doubted = state["skipped"], state["returned"], state["doubted"]
