"""Weights and activations in 8 bits: how each side is rounded, and what that costs a product.

Weights are symmetric with a scale for each row. Activations are symmetric with a scale for each token, found as it
comes ("dynamic"), or with one for all, found on calibration data ("static"; Xiao et al. 2023, table 2, O1 to O3).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from luhuo.model.grid import dense
from luhuo.model.quantised import Rounded

Scales = Literal["token", "tensor"]
"""Of activations: one for each token (dynamic), or one for all (static)."""
TOP = 127
SMALLEST = 1e-8
"""Scale of a token of zeros."""


def round_weight(weight: Tensor) -> Rounded:
    """A matrix (rows, columns) in 8 bits to the nearest: -127 … 127, and a scale for each row."""
    wide = weight.float()
    largest = wide.abs().amax(1, keepdim=True)
    scale = torch.where(largest > 0, largest / TOP, 1.0)
    q = (wide / scale).round().clamp(-TOP, TOP).to(torch.int8)
    return Rounded(q, scale, None, 8, -(-wide.shape[1] // 8) * 8)


def by_token(x: Tensor) -> Tensor:
    """Scales (tokens, 1) of inputs (tokens, columns)."""
    return (x.abs().amax(-1, keepdim=True).float() / TOP).clamp(min=SMALLEST)


def by_tensor(rows: Tensor, largest: float, percentile: float) -> float:
    """One scale for all inputs, from a sample (tokens, columns) and the largest magnitude of all that were seen.

    With a `percentile` below 100 so many of the sample's magnitudes are within the range, and the rest is cut off.
    """
    if percentile >= 100:
        return max(largest / TOP, SMALLEST)
    flat = rows.abs().flatten()
    place = max(1, round(len(flat) * percentile / 100))
    return max(float(flat.kthvalue(place).values) / TOP, SMALLEST)


def rounded_inputs(x: Tensor, scale: Tensor | float) -> Tensor:
    """Inputs (tokens, columns) as the numbers that 8 bits with this scale can say."""
    return (x / scale).round().clamp(-TOP, TOP) * scale


def product_error(rows: Tensor, weight: Tensor, fixed: float | None) -> float:
    """Squared error of rows (tokens, columns) · Wᵀ in 8 bits, over its squares; `fixed`: one scale for all rows."""
    wanted = rows @ weight.float().T
    found = rounded_inputs(rows, by_token(rows) if fixed is None else fixed) @ dense(round_weight(weight)).T
    whole = float(wanted.square().sum(dtype=torch.float64))
    return float((found - wanted).square().sum(dtype=torch.float64)) / whole if whole > 0 else 0.0
