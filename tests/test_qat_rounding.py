"""Rounding that gradients go through: the numbers of the grid, and the slopes of the published equations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.model.grid import Grid, dense
from luhuo.model.layers import Linear
from luhuo.train.quantisation.config import Quantisation
from luhuo.train.quantisation.fake import first_steps, rounded_matrix, rounded_product, rounded_tokens
from luhuo.train.quantisation.rounding import Rounding

ROWS, COLUMNS, GROUP = 6, 32, 8


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def linear(seed: int = 0) -> Linear:
    found = Linear(COLUMNS, ROWS)
    found.weight.data.copy_(random(ROWS, COLUMNS, seed=seed))
    return found


def refreshed(matrix: Linear, **settings: object) -> Rounding:
    """A rounding of this matrix, switched on."""
    rounding = Rounding(matrix, Quantisation(**{"group": GROUP, **settings}))  # type: ignore[arg-type]
    rounding.refresh(matrix, first=True)
    rounding.on = True
    return rounding


def learned_by_the_paper(v: Tensor, s: Tensor, slope: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Slopes of weights and step sizes, number by number, by equations 1 to 3 and section 2.2 of Esser et al. 2020."""
    below, above = 2 ** (bits - 1), 2 ** (bits - 1) - 1
    of_v, of_s = torch.zeros_like(v), torch.zeros_like(s)
    for row in range(v.shape[0]):
        for column in range(v.shape[1]):
            group = column // GROUP
            ratio = (v[row, column] / s[row, group]).item()
            if -below < ratio < above:
                of_v[row, column] = slope[row, column]
                inner = -ratio + round(ratio)
            else:
                inner = -below if ratio <= -below else above
            of_s[row, group] += slope[row, column] * inner / math.sqrt(GROUP * above)
    return of_v, of_s


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_slopes_of_learned_steps_are_those_of_the_paper_in_double_precision(bits: int) -> None:
    weight, slope = random(ROWS, COLUMNS), random(ROWS, COLUMNS, seed=1)
    scale = first_steps(weight, GROUP, bits).mul(0.4).bfloat16().float()  # so that some are cut off
    grid = Grid(bits, GROUP)  # type: ignore[arg-type]
    zero = torch.full_like(scale, 2.0 ** (bits - 1))
    v, s = weight.clone().requires_grad_(True), scale.clone().requires_grad_(True)
    rounded_matrix(v, s, zero, grid).backward(slope)
    of_v, of_s = learned_by_the_paper(weight.double(), scale.double(), slope.double(), bits)
    torch.testing.assert_close(v.grad, of_v.float(), rtol=0, atol=0)
    torch.testing.assert_close(s.grad, of_s.float(), rtol=1e-5, atol=1e-6)
    if bits < 8:
        assert bool((of_v == 0).any())


def test_a_step_is_learned_by_its_logarithm_and_used_as_it_is_stored() -> None:
    matrix = linear()
    rounding = refreshed(matrix, bits=3, method="lsq")
    assert rounding.step is not None
    rounding.values(matrix.weight).backward(random(ROWS, COLUMNS, seed=1))
    used = rounding.steps().detach()
    assert torch.equal(used, used.bfloat16().float())
    scale = used.clone().requires_grad_(True)
    rounded_matrix(matrix.weight, scale, rounding.zero, rounding.grid).backward(random(ROWS, COLUMNS, seed=1))
    assert scale.grad is not None
    torch.testing.assert_close(rounding.step.grad, scale.grad * rounding.step.detach().exp())


def test_learned_steps_begin_with_the_least_error_or_as_the_paper_has_it() -> None:
    matrix = linear()
    best, _ = Grid(2, GROUP).scales(matrix.weight.detach())
    torch.testing.assert_close(refreshed(matrix, bits=2, method="lsq").steps().detach(), best, rtol=0.005, atol=0)
    plain = refreshed(matrix, bits=2, method="lsq", search=False).steps().detach()
    torch.testing.assert_close(plain, first_steps(matrix.weight.detach(), GROUP, 2), rtol=0.005, atol=0)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group", [GROUP, None])
def test_learned_steps_of_a_matrix_that_was_rounded_before_are_those_it_was_rounded_with(
    bits: int, group: int | None
) -> None:
    matrix, grid = linear(), Grid(bits, group)  # type: ignore[arg-type]
    scale, zero = grid.scales(matrix.weight.detach())
    # Other integers than the nearest, as GPTQ's are; of some groups the lowest does not occur, or nothing but zeros.
    q = torch.randint(1, 2**bits, matrix.weight.shape, generator=torch.Generator().manual_seed(2)).float()
    q[0], q[1, :GROUP] = 0, 2.0 ** (bits - 1)
    with torch.no_grad():
        matrix.weight.copy_(dense(grid.rounded(q, scale, zero)))
    rounding = refreshed(matrix, bits=bits, group=group, method="lsq")
    assert torch.equal(rounding.values(matrix.weight), matrix.weight)
    searched = grid.scales(matrix.weight.detach())[0]
    assert not torch.equal(grid.round(matrix.weight, searched, zero).q, rounding.rounded(matrix).q) or bits == 8


def test_first_steps_are_twice_the_mean_size_over_the_root_of_the_largest_integer() -> None:
    weight = random(ROWS, COLUMNS)
    found = first_steps(weight, GROUP, 3)
    assert found[2, 1].item() == pytest.approx(2 * weight[2, GROUP : 2 * GROUP].abs().mean().item() / math.sqrt(3))
    assert first_steps(torch.zeros(1, 8), 8, 2).item() == 1


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group", [GROUP, None])
def test_the_matrix_computed_with_is_the_one_that_is_stored(bits: int, symmetric: bool, group: int | None) -> None:
    matrix = linear()
    rounding = refreshed(matrix, bits=bits, group=group, symmetric=symmetric)
    stored = rounding.rounded(matrix)
    assert stored.bits == bits
    assert torch.equal(rounding.values(matrix.weight), dense(stored))
    assert int(stored.q.unique().numel()) <= 2**bits


def test_slopes_go_straight_through_the_rounding() -> None:
    matrix, slope = linear(), random(ROWS, COLUMNS, seed=1)
    refreshed(matrix, bits=2).values(matrix.weight).backward(slope)
    assert torch.equal(matrix.weight.grad, slope)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["ste", "lsq"])
def test_a_product_and_its_slopes_are_those_of_the_rounded_matrix(method: str) -> None:
    matrix, x, slope = linear(), random(2, 5, COLUMNS, seed=2), random(2, 5, ROWS, seed=3)
    rounding = refreshed(matrix, bits=3, method=method)
    found = {}
    for how in ("fused", "plain"):
        given = x.clone().requires_grad_(True)
        rounding.zero_grad()
        matrix.weight.grad = None
        steps = rounding.steps()
        if how == "fused":
            y = rounded_product(given, matrix.weight, steps, rounding.zero, rounding.grid)
        else:
            y = F.linear(given, rounded_matrix(matrix.weight, steps, rounding.zero, rounding.grid))
        y.backward(slope)
        assert matrix.weight.grad is not None
        of_step = rounding.step.grad if rounding.step is not None else torch.zeros(1)
        found[how] = [y.detach(), given.grad, matrix.weight.grad, of_step]
    for fused, plain in zip(found["fused"], found["plain"], strict=True):
        torch.testing.assert_close(fused, plain)


def test_in_bf16_the_rounded_matrix_is_cast_and_not_the_weights() -> None:
    matrix, x = linear(), random(5, COLUMNS, seed=2).bfloat16()
    rounding = refreshed(matrix, bits=4)
    y = rounding(matrix, x.requires_grad_(True))
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, F.linear(x, rounding.values(matrix.weight).bfloat16()))
    y.sum().backward()
    assert matrix.weight.grad is not None and x.grad is not None


def test_each_token_has_a_scale_of_its_own_and_slopes_go_straight_through() -> None:
    x = torch.stack([random(COLUMNS), 100 * random(COLUMNS, seed=1), torch.zeros(COLUMNS)]).requires_grad_(True)
    y = rounded_tokens(x)
    step = x.detach().abs().amax(1, keepdim=True) / 127
    assert bool(((y - x).abs() <= step / 2 + 1e-6).all())
    assert y[0].detach().unique().numel() > 10
    y.backward(torch.ones_like(x))
    assert torch.equal(x.grad, torch.ones_like(x))  # type: ignore[arg-type]


def test_scales_follow_the_weights_only_when_told() -> None:
    matrix = linear()
    rounding = refreshed(matrix, bits=3)
    before = rounding.scale.clone()
    matrix.weight.data *= 4
    assert torch.equal(rounding.steps(), before)
    rounding.refresh(matrix, first=False)
    torch.testing.assert_close(rounding.steps(), 4 * before)


def test_a_learned_step_is_not_found_anew() -> None:
    matrix = linear()
    rounding = refreshed(matrix, bits=3, method="lsq")
    before = rounding.steps().detach().clone()
    matrix.weight.data *= 4
    rounding.refresh(matrix, first=False)
    assert torch.equal(rounding.steps(), before)
