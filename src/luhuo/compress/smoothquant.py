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
from luhuo.compress.w8a8 import Scales, by_tensor, product_error

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

    def error(scale: Tensor) -> float:
        fixed = None if scales == "token" else by_tensor(rows, float((inputs / scale).max()), 100.0)
        return product_error(rows / scale, together * scale, fixed)

    together = torch.cat([weight.float() for weight in weights])
    ones = torch.ones_like(inputs)
    plain = error(ones)
    if exponent is not None:
        scale = shared(smoothing(inputs, weights, exponent))
        return Choice(scale, exponent, error(scale), plain)
    best = Choice(ones, None, plain, plain)
    for step in range(STEPS + 1):
        scale = shared(smoothing(inputs, weights, step / STEPS))
        found = error(scale)
        if found < best.error:
            best = Choice(scale, step / STEPS, found, plain)
    return best
