"""GPTQ against the paper's equations in float64, and against trying all roundings of tiny matrices."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from luhuo.compress.gptq import gptq, inverse_factor, relative_error
from luhuo.compress.inputs import SecondMoment
from luhuo.compress.rtn import rtn
from luhuo.core.errors import LuhuoError
from luhuo.model.grid import Grid, dense


def layer(rows: int, columns: int, seed: int = 0, samples: int = 400) -> tuple[Tensor, Tensor]:
    """A matrix, and the second moment of correlated inputs of very different sizes."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=generator) / columns**0.5 + torch.eye(columns)
    sizes = torch.exp(torch.randn(columns, generator=generator))
    moment = SecondMoment(columns)
    moment.add(torch.randn(samples, columns, generator=generator) @ mixing * sizes)
    return torch.randn(rows, columns, generator=generator), moment.moment


def objective(weight: Tensor, changed: Tensor, hessian: Tensor) -> float:
    error = weight.double() - changed.double()
    return float(((error @ hessian.double()) * error).sum())


def reference(weight: Tensor, hessian: Tensor, grid: Grid, places: Tensor, damping: float) -> Tensor:
    """Optimal brain quantisation in a given order (GPTQ, equations 2 and 3): after a column is rounded, the others are
    corrected with the inverse of the Hessian of those that are left, which is computed anew each time."""
    scale, zero = (part.double() for part in grid.scales(weight, hessian.diagonal()))
    wide, moment = weight.double().clone(), hessian.double()
    moment = moment + damping * moment.diagonal().mean() * torch.eye(len(moment), dtype=torch.float64)
    left = places.tolist()
    group = grid.width(weight.shape[1])
    while left:
        j = left[0]
        inverse = torch.linalg.inv(moment[left][:, left])
        s, z = scale[:, j // group], zero[:, j // group]
        q = (((wide[:, j] / s).round() + z).clamp(0, grid.top) - z) * s
        error = (wide[:, j] - q) / inverse[0, 0]
        wide[:, left] -= error[:, None] * inverse[0]
        wide[:, j] = q
        left = left[1:]
    return wide


@pytest.mark.parametrize("bits", [4, 3, 2])
@pytest.mark.parametrize("symmetric", [True, False])
def test_it_is_the_papers_algorithm(bits: Any, symmetric: bool) -> None:
    """The Cholesky factor and the lazy blocks give what removing columns one by one gives."""
    weight, hessian = layer(12, 48)
    grid = Grid(bits, 16, symmetric)
    for order in ("given", "static"):
        places = torch.arange(48) if order == "given" else hessian.diagonal().argsort(descending=True, stable=True)
        ours = gptq(weight, hessian, grid, order=order, block=20)
        theirs = reference(weight, hessian, grid, places, 0.01)
        found = objective(weight, dense(ours.rounded), hessian)
        assert found == pytest.approx(objective(weight, theirs, hessian), rel=0.01)
        assert ours.error == pytest.approx(relative_error(weight, theirs.float(), hessian), rel=0.01)


def test_blocks_make_no_difference() -> None:
    weight, hessian = layer(8, 64)
    for order in ("static", "activation"):
        whole = gptq(weight, hessian, Grid(3, 32), order=order, block=64)
        parts = gptq(weight, hessian, Grid(3, 32), order=order, block=8)
        assert (dense(whole.rounded) - dense(parts.rounded)).abs().gt(1e-3).float().mean() < 0.01


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_it_is_near_the_best_of_all_roundings(seed: int) -> None:
    """Rows of five weights in three bits: all 8^5 integers are tried."""
    weight, hessian = layer(16, 5, seed=seed)
    grid = Grid(3, None, search=False)
    scale, zero = grid.scales(weight)
    points = torch.tensor(list(itertools.product(range(8), repeat=5))).double()
    ours = objective(weight, dense(gptq(weight, hessian, grid, damping=1e-6).rounded), hessian)
    plain = objective(weight, dense(rtn(weight, grid)), hessian)
    best = 0.0
    for row in range(16):
        errors = (points - zero[row].double()) * scale[row].double() - weight[row].double()
        best += float((errors @ hessian.double() * errors).sum(1).min())
    assert best <= ours * (1 + 1e-6)
    assert ours < 1.2 * best
    assert ours - best < 0.3 * (plain - best)


@pytest.mark.parametrize("order", ["given", "static", "activation"])
@pytest.mark.parametrize("bits", [4, 3])
def test_it_loses_less_than_rounding_to_the_nearest(order: Any, bits: Any) -> None:
    weight, hessian = layer(64, 128, seed=5)
    grid = Grid(bits, 32)
    lost = objective(weight, dense(gptq(weight, hessian, grid, order=order).rounded), hessian)
    assert lost < 0.7 * objective(weight, dense(rtn(weight, grid)), hessian)


def test_independent_inputs_leave_nothing_to_make_up_for() -> None:
    """With a diagonal Hessian columns do not bear on each other: the nearest is the best."""
    weight, _ = layer(8, 32)
    grid = Grid(4, 32, search=False)
    rounded = gptq(weight, torch.eye(32), grid, order="given").rounded
    assert torch.equal(rounded.q, rtn(weight, grid).q)


def test_a_singular_moment_is_damped_until_it_has_a_factor() -> None:
    """Fewer inputs than columns, and inputs that repeat each other."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 16, generator=generator)
    x[:, 8:] = x[:, :8]
    hessian = x.T @ x
    outcome = gptq(torch.randn(4, 16, generator=generator), hessian, Grid(4, 16), damping=1e-12)
    assert outcome.damping > 1e-12
    assert dense(outcome.rounded).isfinite().all()
    negative = torch.eye(8) - 0.5  # not a second moment of anything: its least eigenvalue is negative
    upper, damping = inverse_factor(negative, 0.01)
    assert damping > 1 and upper.isfinite().all()


def test_columns_without_input_become_zero() -> None:
    weight, hessian = layer(4, 16)
    hessian[5] = 0
    hessian[:, 5] = 0
    outcome = gptq(weight, hessian, Grid(4, 16))
    assert outcome.dead == 1
    assert bool((dense(outcome.rounded)[:, 5] == 0).all())


def test_inputs_that_are_not_finite_are_refused() -> None:
    weight, hessian = layer(4, 16)
    hessian[0, 0] = torch.inf
    with pytest.raises(LuhuoError, match=r"finite|非有限"):
        gptq(weight, hessian, Grid(4, 16))


def test_groups_must_divide_the_columns() -> None:
    weight, hessian = layer(4, 48)
    with pytest.raises(LuhuoError, match="16"):
        gptq(weight, hessian, Grid(4, 32))
