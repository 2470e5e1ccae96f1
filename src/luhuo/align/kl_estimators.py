"""Estimators of KL(π ‖ π_ref) from single tokens (Schulman 2020, "Approximating KL divergence").

With d = log π(a) - log π_ref(a) and a drawn from π: k1 = d, k2 = d²/2, k3 = exp(-d) - 1 + d. k1 and k3 have the right
mean, k3 is never negative and varies less, k2 is biased.

Their derivatives are another matter. The gradient of the KL is the mean of d·∇log π. That is exactly what k2 gives;
k1 as a loss gives ∇log π, whose mean is zero, so it does nothing; k3 gives (1 - exp(-d))·∇log π, which agrees to first
order only. So here the gradient is always that of k2, times the ratio where samples are of an older policy, and the
estimator only says what is reported; ρ·k3 with a gradient through ρ, as in DeepSeek-V3.2, comes to the same.
"k3_plain" is k3 with its own gradient, as DeepSeekMath wrote it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Estimator = Literal["k1", "k2", "k3", "k3_plain"]

FARTHEST = 20.0
"""Log-ratios beyond this count as this."""
LARGEST = 10.0
"""Of k3, which grows exponentially where the policy has left out what the reference would say."""


def kl_terms(log_probs: Tensor, reference: Tensor, ratio: Tensor, estimator: Estimator) -> Tensor:
    """Loss terms, one a token, of any shape; `ratio` (no gradient): of the policy to the one that sampled."""
    distance = (log_probs - reference).clamp(-FARTHEST, FARTHEST)
    if estimator == "k3_plain":
        return k3(distance)
    values = {"k1": distance, "k2": 0.5 * distance.square(), "k3": k3(distance)}[estimator].detach()
    slope = 0.5 * distance.square()
    return ratio * (values + slope - slope.detach())


def k3(distance: Tensor) -> Tensor:
    """exp(-d) - 1 + d of log-ratios d, at most `LARGEST`."""
    return (torch.exp(-distance) - 1 + distance).clamp(max=LARGEST)
