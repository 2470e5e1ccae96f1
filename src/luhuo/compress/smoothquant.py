"""SmoothQuant (Xiao et al. 2023): inputs with large columns are made even, and the weights take what is removed.

s_j = max |x_j|^α / max |w_j|^(1 - α) (equation 4). With x / s and W · diag(s) both sides round to 8 bits with little
loss: weights by row, inputs by token or as a whole (`w8a8`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luhuo.compress.awq import SMALLEST
from luhuo.compress.w8a8 import Scales, product_error

STEPS = 20
"""Values of α that are tried: 0, 1/20 … 1."""


@dataclass(frozen=True)
class Choice:
    """The scales that were found."""

    scale: Tensor
    """(columns,) fp32."""
    exponent: float | None
    """α; None: nothing is better."""
    error: float
    """Squared error of the outputs in 8 bits with these scales, over their squares."""
    plain: float
    """The same without."""


def smoothing(inputs: Tensor, weights: Sequence[Tensor], exponent: float) -> Tensor:
    """Scales (columns,) from the largest magnitudes `inputs` (columns,) and matrices (rows, columns): equation 4."""
    largest = torch.stack([weight.float().abs().amax(0) for weight in weights]).amax(0)
    of_inputs = inputs.float().clamp(min=SMALLEST)
    return (of_inputs**exponent / largest.clamp(min=SMALLEST) ** (1 - exponent)).clamp(min=SMALLEST)


def _same(scale: Tensor) -> Tensor:
    return scale


def search(
    weights: Sequence[Tensor],
    inputs: Tensor,
    rows: Tensor,
    scales: Scales,
    *,
    exponent: float | None = None,
    shared: Callable[[Tensor], Tensor] = _same,
) -> Choice:
    """Scales for the input of matrices (rows, columns) that share it, with the least error of the 8-bit products.

    `inputs` (columns,) are its largest magnitudes, `rows` (tokens, columns) a sample of it, on which the error is
    taken. With an `exponent` only that one is taken, whatever it costs. `shared` makes scales equal that must be.
    """
    whole = sum(float((rows @ weight.float().T).square().sum()) for weight in weights)
    share = 1 / whole if whole > 0 else 0.0
    ones = torch.ones_like(inputs)
    plain = share * sum(product_error(rows, weight, ones, inputs, scales) for weight in weights)
    best = Choice(ones, None, plain, plain)
    for step in range(STEPS + 1):
        tried = step / STEPS if exponent is None else exponent
        scale = shared(smoothing(inputs, weights, tried))
        error = share * sum(product_error(rows, weight, scale, inputs, scales) for weight in weights)
        if exponent is not None:
            return Choice(scale, tried, error, plain)
        if error < best.error:
            best = Choice(scale, tried, error, plain)
    return best
