"""How much staying near the reference is worth: the coefficient of the KL penalty, fixed or adaptive.

Adaptive as in Ziegler et al. 2019 ("Fine-Tuning Language Models from Human Preferences", section 2.2):

    e = clip(KL / target - 1, -0.2, 0.2),    β ← β · (1 + e · n / horizon)

with KL the mean over episodes of the sum over an episode's tokens, and n the number of episodes it was measured on.
"""

from __future__ import annotations

import math
from typing import Any

LIMIT = 0.2
"""Largest error that counts, so that one odd batch does not throw the coefficient about."""


class KLControl:
    """The coefficient β of log π - log π_ref in the reward. Without a `target` it stays what it is.

    `target`: nats an episode; `horizon`: episodes in which an error of 1 would change β by a factor of e. The measure
    must be the global one, over all processes: then all hold the same β.
    """

    def __init__(self, coefficient: float, target: float | None = None, horizon: float = 10_000.0) -> None:
        self.coefficient, self.target, self.horizon = coefficient, target, horizon

    def update(self, kl: float, episodes: int) -> None:
        """Take in the mean KL (nats an episode) of so many episodes. A measure that is not finite changes nothing."""
        if self.target is None or not math.isfinite(kl):
            return
        error = min(LIMIT, max(-LIMIT, kl / self.target - 1))
        self.coefficient *= 1 + error * min(1.0, episodes / self.horizon)

    def state(self) -> dict[str, Any]:
        """JSON value to continue from."""
        return {"coefficient": self.coefficient}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.coefficient = float(state["coefficient"])
