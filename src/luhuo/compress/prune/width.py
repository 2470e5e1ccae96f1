"""Which inner channels of an MLP stay, and which features of the residual stream.

A channel is worth what the residual stream loses without it when the others are fitted anew (`refit.worth`). A feature
counts by what it contributes, after the norms, to the matrices that read it: E[y_i²] ‖W_i‖², relative to what all
features contribute to that matrix, summed over the matrices (Minitron, Muralidharan et al. 2024, section 2.2, sums
what comes out of the norms).
"""

from __future__ import annotations

import torch
from torch import Tensor

from luhuo.compress.prune.refit import worth


def choose_channels(down: Tensor, moment: Tensor, wanted: int, damping: float = 0.01) -> Tensor:
    """The channels (wanted,) that stay, in order, of the second matrix `down` (hidden, inner) of an MLP whose inputs
    have the second moment `moment` (inner, inner)."""
    values = worth(down, moment, list(torch.arange(down.shape[1])[:, None]), damping)
    return values.argsort(descending=True, stable=True)[:wanted].sort().values


class Features:
    """Importance of the features of the residual stream, added up over the matrices that read it."""

    def __init__(self, count: int) -> None:
        self.importance = torch.zeros(count, dtype=torch.float64)
        """(features,)."""

    def add(self, weight: Tensor, squares: Tensor) -> None:
        """Count a matrix (rows, features) whose inputs have the sums of squares `squares` (features,)."""
        energy = squares.double() * weight.double().square().sum(0)
        whole = float(energy.sum())
        if whole > 0:
            self.importance += energy / whole

    def choose(self, wanted: int) -> Tensor:
        """The features (wanted,) that stay, in order."""
        return self.importance.argsort(descending=True, stable=True)[:wanted].sort().values
