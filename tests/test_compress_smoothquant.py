"""SmoothQuant and 8-bit activations against the paper's equations in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from luhuo.compress.smoothquant import search, smoothing
from luhuo.compress.w8a8 import by_tensor, by_token, round_weight, rounded_inputs
from luhuo.model.grid import dense


def layer(outliers: float = 40.0, columns: int = 64, rows: int = 32) -> tuple[Tensor, Tensor]:
    """Inputs (tokens, columns) with two large columns, as large models have them, and a matrix (rows, columns)."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(256, columns, generator=generator)
    inputs[:, [3, 17]] *= outliers
    return inputs, 0.05 * torch.randn(rows, columns, generator=generator)


def in_eight_bits(x: Tensor, dim: int | None) -> Tensor:
    """Symmetric rounding to -127 … 127 in float64; a scale for each index but those along `dim`, or one for all."""
    largest = x.abs().amax() if dim is None else x.abs().amax(dim, keepdim=True)
    return (x / (largest / 127)).round().clamp(-127, 127) * (largest / 127)


def paper_error(inputs: Tensor, weight: Tensor, exponent: float | None, dim: int | None) -> float:
    """Equations 3 and 4 in float64: relative squared error of Q(X / s) Q(W · s)ᵀ."""
    x, w = inputs.double(), weight.double()
    scale = torch.ones(x.shape[1]).double()
    if exponent is not None:
        scale = x.abs().amax(0) ** exponent / w.abs().amax(0) ** (1 - exponent)
    product = in_eight_bits(x / scale, dim) @ in_eight_bits(w * scale, 1).T
    return float((product - x @ w.T).square().sum() / (x @ w.T).square().sum())


@pytest.mark.parametrize(("scales", "dim"), [("token", 1), ("tensor", None)])
def test_a_given_exponent_has_the_papers_error(scales: str, dim: int | None) -> None:
    inputs, weight = layer()
    found = search([weight], inputs.abs().amax(0), inputs, scales, exponent=0.5)  # type: ignore[arg-type]
    assert found.error == pytest.approx(paper_error(inputs, weight, 0.5, dim), rel=0.01)
    assert found.plain == pytest.approx(paper_error(inputs, weight, None, dim), rel=0.01)


@pytest.mark.parametrize(("scales", "dim"), [("token", 1), ("tensor", None)])
def test_the_search_finds_the_best_exponent_of_twenty(scales: str, dim: int | None) -> None:
    inputs, weight = layer()
    found = search([weight], inputs.abs().amax(0), inputs, scales)  # type: ignore[arg-type]
    best = min(paper_error(inputs, weight, step / 20, dim) for step in range(21))
    assert found.error <= 1.01 * best
    assert found.error < 0.1 * found.plain


def test_even_inputs_and_weights_are_left_alone_or_better() -> None:
    inputs, weight = layer(outliers=1.0)
    found = search([weight], inputs.abs().amax(0), inputs, "token")
    assert found.error <= found.plain


def test_matrices_that_share_an_input_are_smoothed_by_their_largest_weights() -> None:
    inputs, weight = layer()
    largest = inputs.abs().amax(0)
    assert torch.equal(smoothing(largest, [weight, 3 * weight], 0.5), smoothing(largest, [3 * weight], 0.5))


def test_a_column_without_input_gets_a_finite_scale() -> None:
    inputs, weight = layer()
    inputs[:, 5], weight[:, 9] = 0, 0
    scale = smoothing(inputs.abs().amax(0), [weight], 0.5)
    assert bool(scale.isfinite().all()) and bool((scale > 0).all())


def test_weights_have_a_scale_for_each_row_and_lose_no_row_to_another() -> None:
    weight = layer()[1] * torch.logspace(-4, 4, 32)[:, None]
    rounded = round_weight(weight)
    assert rounded.scale.shape == (32, 1)
    assert rounded.q.abs().amax(1).tolist() == [127] * 32
    assert ((dense(rounded) - weight).abs() <= 0.51 * weight.abs().amax(1, keepdim=True) / 127).all()


def test_a_scale_for_each_token_keeps_small_tokens_and_zeros() -> None:
    x = torch.cat([1e-3 * torch.ones(1, 8), 100 * torch.ones(1, 8), torch.zeros(1, 8)])
    assert torch.allclose(rounded_inputs(x, by_token(x)), x, rtol=1e-6)


def test_a_percentile_cuts_off_the_largest_inputs() -> None:
    rows = torch.ones(100, 10)
    rows[0, 0] = 1000
    assert by_tensor(rows, 2000.0, 100) == pytest.approx(2000 / 127)
    assert by_tensor(rows, 2000.0, 99.0) == pytest.approx(1 / 127)
