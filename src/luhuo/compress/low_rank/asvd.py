"""ASVD (Yuan et al. 2023): columns whose inputs are large count more.

W S = U Σ Vᵀ with the diagonal S_jj = (mean |x_j|)^α, section 3.2 there; α = 1/2.
"""

from __future__ import annotations

from torch import Tensor

ALPHA = 0.5


def root_of_magnitudes(mean: Tensor, alpha: float = ALPHA) -> Tensor:
    """The diagonal (columns,) of S for mean magnitudes (columns,) of the inputs. Columns whose input is always 0 count
    a thousandth of the mean, so that something is known of them."""
    floor = 1e-3 * mean.mean().clamp(min=1e-30)
    return mean.clamp(min=float(floor)) ** alpha
