"""When inputs of a matrix go, the weights of those that stay are fitted anew to give the same outputs.

With inputs x of second moment M, the remaining columns K of W and the gone ones R, the weights V for K that minimise
E‖W x - V x_K‖² + λ‖V - W_K‖² are W_K + W_R M_RK (M_KK + λ)⁻¹: the optimal brain surgeon for whole columns (Hassibi and
Stork 1992; Kurtic et al. 2023, "ZipLM"). What this leaves of the error is also what a column is worth.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def refit(weight: Tensor, moment: Tensor, kept: Tensor, damping: float = 0.01) -> Tensor:
    """A matrix (rows, columns) with zeros in all columns but `kept` (indices), and these fitted anew.

    `moment` (columns, columns) is the inputs' second moment, `damping` the share of its mean diagonal that λ is.
    """
    stays = torch.zeros(weight.shape[1], dtype=torch.bool)
    stays[kept] = True
    wide, full = weight.double(), damped(moment, damping)
    result = torch.zeros_like(wide)
    fitted = torch.linalg.solve(full[stays][:, stays], full[stays][:, ~stays] @ wide[:, ~stays].T).T
    result[:, stays] = wide[:, stays] + fitted
    return result.to(weight.dtype)


def worth(weight: Tensor, moment: Tensor, groups: Sequence[Tensor], damping: float = 0.01) -> Tensor:
    """What the outputs lose (groups,), in energy, when the columns of one group go and all others are fitted anew:
    tr(W_G ((M⁻¹)_GG)⁻¹ W_Gᵀ). fp64."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped(moment, damping)))
    wide = weight.double()
    if all(len(group) == 1 for group in groups):
        places = torch.cat(list(groups))
        return wide[:, places].square().sum(0) / inverse.diagonal()[places]
    found = [_lost(wide[:, group], inverse[group][:, group]) for group in groups]
    return torch.stack(found)


def _lost(weight: Tensor, inverse: Tensor) -> Tensor:
    return (torch.linalg.solve(inverse, weight.T) * weight.T).sum()


def damped(moment: Tensor, damping: float) -> Tensor:
    """The moment (columns, columns) fp64 with a share of its mean diagonal added; inputs that are always 0 get more,
    so that nothing is fitted to them."""
    wide = moment.double()
    diagonal = wide.diagonal()
    mean = float(diagonal.mean())
    added = torch.full_like(diagonal, damping * mean if mean > 0 else 1.0)
    return wide + torch.diag(torch.where(diagonal > 0, added, mean if mean > 0 else 1.0))
