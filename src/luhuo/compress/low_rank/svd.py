"""Truncated singular value decomposition of a matrix, seen through what its inputs look like.

For a matrix W (rows, columns) and a square root R of what is known of its inputs, W R = U Σ Vᵀ. The best matrix of
rank r in the norm ‖(W - Ŵ) R‖ is Ŵ = U_r Σ_r V_rᵀ R⁻¹ (Eckart & Young 1936), and the squared error is the sum of the
squared singular values that are dropped. Since U_r Σ_r V_rᵀ = U_r U_rᵀ W R, that is Ŵ = U_r U_rᵀ W: R is never
inverted, so it may be singular. Plain SVD has R = 1, ASVD a diagonal R, SVD-LLM the Cholesky factor of the inputs'
second moment.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from luhuo.model.factorised import Factors


@dataclass(frozen=True)
class Decomposition:
    """W and its left singular vectors under R, in float64."""

    weight: Tensor
    """(rows, columns)."""
    left: Tensor
    """(rows, n): U."""
    values: Tensor
    """(n,): singular values of W R, largest first."""

    def factors(self, rank: int) -> Factors:
        """The two factors of the best matrix of this rank, in fp32, each with half of the scale."""
        left, values = self.left[:, :rank], self.values[:rank]
        size = self.weight.norm() / max(1, min(self.weight.shape)) ** 0.5
        half = values.clamp(min=max(float(size) * 1e-12, 1e-30)).sqrt()
        return Factors((left.T @ self.weight / half[:, None]).float(), (left * half).float())

    def loss(self, rank: int) -> float:
        """‖(W - Ŵ) R‖² over ‖W R‖²."""
        energy = self.values.square()
        return float(energy[rank:].sum() / energy.sum().clamp(min=1e-300))


def decompose(weight: Tensor, root: Tensor | None = None) -> Decomposition:
    """The singular value decomposition of a matrix (rows, columns) under `root`: (columns,) for a diagonal one,
    (columns, columns), or None for the identity."""
    wide = weight.double()
    seen = wide if root is None else wide * root.double() if root.ndim == 1 else wide @ root.double()
    left, values, _ = torch.linalg.svd(seen, full_matrices=False)
    return Decomposition(wide, left, values)


def refitted(weight: Tensor, factors: Factors, moment: Tensor) -> Factors:
    """The same a, with the b that makes the outputs' squared error least for inputs of this second moment M:
    b = W M aᵀ (a M aᵀ)⁻¹ (the closed-form update of SVD-LLM, Wang et al. 2024, section 3.3)."""
    a, wide = factors.a.double(), moment.double()
    through = wide @ a.T  # (columns, rank)
    b = torch.linalg.lstsq(a @ through, (weight.double() @ through).T, driver="gelsd").solution.T
    return Factors(factors.a, b.float())
