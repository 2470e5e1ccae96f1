"""pass@k: the chance that one of k samples of a problem is right, from n ≥ k samples of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pass_at_k(n: int, correct: int, k: int) -> float:
    """The unbiased estimate 1 - C(n - c, k) / C(n, k) of one problem (Chen et al. 2021, section 2.1).

    Raises ValueError unless 0 ≤ correct ≤ n and 1 ≤ k ≤ n.
    """
    if not 0 <= correct <= n or not 1 <= k <= n:
        raise ValueError(f"pass@{k} of {correct} right among {n} is not defined")
    if n - correct < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - correct + 1, n + 1)))


def pass_at(outcomes: Sequence[tuple[int, int]], ks: Sequence[int] = (1, 10, 100)) -> dict[int, float]:
    """{k: mean over problems} from (samples, right ones) of each; a k that a problem has too few samples for is left
    out, since its mean would be one over other problems."""
    fewest = min((n for n, _ in outcomes), default=0)
    return {k: float(np.mean([pass_at_k(n, c, k) for n, c in outcomes])) for k in ks if k <= fewest}
