"""FP8 weights: every number is the nearest E4M3 number under its scale."""

from __future__ import annotations

import pytest
import torch

from luhuo.compress.fp8_weights import LARGEST, Per, dense, fp8


def e4m3_numbers() -> torch.Tensor:
    """All finite numbers of E4M3 by its definition: a sign, four bits of exponent (bias 7), three of fraction."""
    normal = [(1 + f / 8) * 2.0 ** (e - 7) for e in range(1, 16) for f in range(8) if (e, f) != (15, 7)]
    return torch.tensor([0.0] + [f / 8 * 2.0**-6 for f in range(1, 8)] + normal, dtype=torch.float64)


@pytest.mark.parametrize("per", ["row", "matrix"])
def test_every_weight_becomes_the_nearest_number_of_the_format(per: Per) -> None:
    weight = torch.randn(6, 40, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 1, 6)[:, None]
    found = fp8(weight, per)
    assert found.scale.shape == ((6, 1) if per == "row" else (1, 1))
    wanted = weight.double().abs() / found.scale.double()
    distance = (wanted[..., None] - e4m3_numbers()).abs().amin(-1)
    taken = (wanted - found.values.double().abs()).abs()
    assert (taken <= distance * (1 + 1e-6) + 1e-9).all()
    assert (found.values.double().sign() * weight.sign() >= 0).all()


def test_the_largest_number_of_a_row_is_exact_and_none_overflows() -> None:
    weight = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    found = fp8(weight)
    assert found.values.float().abs().amax(1).tolist() == [LARGEST] * 5
    assert torch.allclose(dense(found).abs().amax(1), weight.abs().amax(1), rtol=1e-6)


def test_a_scale_for_each_row_saves_a_row_a_thousandth_as_large() -> None:
    weight = torch.randn(2, 64, generator=torch.Generator().manual_seed(2)) * torch.tensor([[1.0], [1e-6]])
    errors = [((dense(fp8(weight, per)) - weight)[1].norm() / weight[1].norm()).item() for per in ("row", "matrix")]
    assert errors[0] < 0.04 < 0.5 < errors[1]


def test_a_row_of_zeros_stays_zero() -> None:
    assert not dense(fp8(torch.zeros(3, 8))).any()
