"""Advantages of whole answers: how much better a sample was than what was to be expected.

Scores (n,) and groups (n,) are vectors over samples; equal numbers in `groups` answer the same prompt. A score that is
NaN could not be given: the sample takes no part in any statistic, and its advantage is NaN, for the caller to mask. A
group with fewer than two scores has nothing to be compared with, and its advantages are 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

GROUP_FLOOR = 1e-4
"""Added to a group's standard deviation."""

NOISE = 1e-9
"""Differences below it are what sums of equal scores leave; an optimiser that scales its steps makes full ones of
them."""

Total = Callable[[Tensor], Tensor]
"""Sums a tensor over all processes (`Ranks.sum`)."""


def centred(scores: Tensor, groups: Tensor) -> Tensor:
    """Score minus the mean of its group: Dr. GRPO (Liu et al. 2025, section 3.2).

    Dividing by the deviation, as GRPO does, gives more weight to prompts that are nearly always or nearly never
    answered rightly.
    """
    mean, _, count = _moments(scores, groups)
    return _compared(scores - mean, count)


def standardised(scores: Tensor, groups: Tensor) -> Tensor:
    """The same over the standard deviation of its group: GRPO (Shao et al. 2024, "DeepSeekMath", section 4.1.2)."""
    mean, deviation, count = _moments(scores, groups)
    return _compared(scores - mean, count) / (deviation + GROUP_FLOOR)


def leave_one_out(scores: Tensor, groups: Tensor) -> Tensor:
    """Score minus the mean of the *other* samples of its group: RLOO (Kool et al. 2019; Ahmadian et al. 2024).

    The baseline does not depend on the sample itself, so the gradient is unbiased.
    """
    mean, _, count = _moments(scores, groups)
    return _compared(scores - mean, count) * count / (count - 1).clamp(min=1)


def over_deviation(advantages: Tensor, total: Total) -> Tensor:
    """Advantages over their standard deviation in the whole batch of all processes (Liu et al. 2025, "Lite PPO").

    A deviation over many prompts does not blow up where a group is nearly of one mind.
    """
    _, _, deviation = batch_moments(advantages, total)
    return advantages / (deviation + GROUP_FLOOR)


def whitened(advantages: Tensor, total: Total) -> Tensor:
    """Advantages with mean 0 and deviation 1 over the whole batch of all processes: REINFORCE++ (Hu 2025)."""
    _, mean, deviation = batch_moments(advantages, total)
    differences = advantages - mean
    return torch.where(differences.abs() < NOISE, 0.0, differences / (deviation + 1e-8))


def to_go(values: Tensor, segments: Tensor) -> Tensor:
    """Of each token the sum of `values` from it to the end of its sequence: (rows, length), 0 in padding.

    `segments` (rows, length): sequences in a row have rising numbers, 0 is padding.
    """
    found = torch.zeros_like(values)
    for number in range(1, int(segments.max()) + 1):
        mine = torch.where(segments == number, values, 0.0)
        found += torch.where(segments == number, mine.flip(1).cumsum(1).flip(1), 0.0)
    return found


def batch_moments(values: Tensor, total: Total) -> tuple[float, float, float]:
    """(number, mean, standard deviation) of all values that are not NaN, over all processes."""
    known = values[~values.isnan()].double()
    count = torch.tensor(float(known.numel()), dtype=torch.float64, device=values.device)
    number, first = total(torch.stack([count, known.sum()])).tolist()
    mean = first / max(1.0, number)
    square = total((known - mean).square().sum()).item()
    return number, mean, (square / max(1.0, number)) ** 0.5


def _moments(scores: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, deviation (of a sample: over n - 1) and number of scores of each sample's group, each (n,)."""
    _, place = groups.unique(return_inverse=True)
    size = int(place.max()) + 1 if len(place) else 0
    known = ~scores.isnan()
    values = torch.where(known, scores, 0.0)

    def sums(of: Tensor) -> Tensor:
        return torch.zeros(size, dtype=of.dtype, device=of.device).index_add_(0, place, of)[place]

    count = sums(known.to(values.dtype))
    mean = sums(values) / count.clamp(min=1)
    square = sums(torch.where(known, (values - mean).square(), 0.0))
    return mean, (square / (count - 1).clamp(min=1)).sqrt(), count


def _compared(differences: Tensor, count: Tensor) -> Tensor:
    """Zero where a group has fewer than two scores or all are equal; what is NaN stays it."""
    return torch.where((count < 2) & ~differences.isnan() | (differences.abs() < NOISE), 0.0, differences)
