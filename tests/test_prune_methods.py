"""Magnitude, Wanda and SparseGPT on plain tensors, against references written here in float64 from the papers."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from luhuo.compress.inputs import Magnitudes, SecondMoment
from luhuo.compress.prune.allocation import outliers, owl
from luhuo.compress.prune.magnitude import global_threshold, magnitude
from luhuo.compress.prune.sparsegpt import sparsegpt
from luhuo.compress.prune.target import Target, share_of_zeros
from luhuo.compress.prune.wanda import wanda
from luhuo.core.errors import LuhuoError
from luhuo.kernels.sparsity import Pattern
from luhuo.model.grid import Grid, dense

HALF, TWO_OF_FOUR = Target(0.5), Target(0.5, Pattern(2, 4))


def layer(rows: int, columns: int, tokens: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A matrix and inputs (tokens, columns) that hang together and differ in size by a factor of ten."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=generator) / columns**0.5
    sizes = torch.logspace(-0.5, 0.5, columns)[torch.randperm(columns, generator=generator)]
    inputs = (torch.randn(tokens, columns, generator=generator) @ (mixing + 0.5 * torch.eye(columns))) * sizes
    return torch.randn(rows, columns, generator=generator), inputs


def moment_of(inputs: Tensor) -> Tensor:
    collector = SecondMoment(inputs.shape[1])
    for part in inputs.split(50):
        collector.add(part)
    return collector.moment


def squares_of(inputs: Tensor) -> Tensor:
    collector = Magnitudes(inputs.shape[1])
    for part in inputs.split(50):
        collector.add(part)
    return collector.squares


def output_error(weight: Tensor, changed: Tensor, inputs: Tensor) -> float:
    """‖WX - W'X‖² / ‖WX‖² in float64, of the inputs themselves."""
    x = inputs.double()
    before = x @ weight.double().T
    return float((before - x @ changed.double().T).square().sum() / before.square().sum())


def wanda_of_the_paper(weight: Tensor, inputs: Tensor, sparsity: float) -> Tensor:
    """Algorithm 1: metric = W.abs() · X.norm(p=2), the smallest of each row go."""
    metric = weight.double().abs() * torch.linalg.vector_norm(inputs.double(), dim=0)
    gone = metric.argsort(dim=1)[:, : int(weight.shape[1] * sparsity)]
    return torch.ones_like(weight, dtype=torch.bool).scatter_(1, gone, False)


def sparsegpt_of_the_paper(weight: Tensor, inputs: Tensor, sparsity: float, block: int, share: float) -> Tensor:
    """Algorithm 1 in float64, column by column, every column behind corrected at once."""
    x, w = inputs.double(), weight.double().clone()
    hessian = 2 / len(x) * x.T @ x
    hessian += share * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=torch.float64)
    factor = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    for start in range(0, w.shape[1], block):
        columns = range(start, min(start + block, w.shape[1]))
        score = w[:, columns] ** 2 / factor.diagonal()[columns] ** 2
        border = score.flatten().sort().values[round(sparsity * score.numel()) - 1]
        gone = score <= border
        for j in columns:
            error = torch.where(gone[:, j - start], w[:, j], 0.0) / factor[j, j]
            w[:, j:] -= error[:, None] * factor[j, j:]
            w[gone[:, j - start], j] = 0.0
    return w


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.75])
def test_wanda_chooses_what_the_paper_chooses(sparsity: float) -> None:
    weight, inputs = layer(40, 64, 300)
    found = wanda(weight, squares_of(inputs), Target(sparsity))
    assert torch.equal(found, wanda_of_the_paper(weight, inputs, sparsity))


def test_wanda_with_a_pattern_chooses_within_each_group() -> None:
    weight, inputs = layer(12, 32, 100)
    found = wanda(weight, squares_of(inputs), TWO_OF_FOUR)
    for start in range(0, 32, 4):
        part = slice(start, start + 4)
        assert torch.equal(found[:, part], wanda_of_the_paper(weight[:, part], inputs[:, part], 0.5))


@pytest.mark.parametrize(("sparsity", "block"), [(0.5, 128), (0.5, 16), (0.7, 24), (0.3, 32)])
def test_sparsegpt_reaches_the_objective_of_the_paper(sparsity: float, block: int) -> None:
    weight, inputs = layer(48, 96, 400)
    ours = sparsegpt(weight, moment_of(inputs), Target(sparsity), block=block)
    theirs = sparsegpt_of_the_paper(weight, inputs, sparsity, block, 0.01)
    assert torch.equal(ours.weight == 0, theirs == 0)
    torch.testing.assert_close(ours.weight.double(), theirs, rtol=1e-3, atol=1e-4)
    assert output_error(weight, ours.weight, inputs) <= 1.01 * output_error(weight, theirs, inputs)
    assert ours.error == pytest.approx(output_error(weight, ours.weight, inputs), rel=1e-3)
    assert share_of_zeros(ours.weight) == pytest.approx(sparsity, abs=0.005)


def test_sparsegpt_is_the_exact_surgeon_where_nothing_lies_before_what_goes() -> None:
    """With all pruned columns in front, every weight that stays may still move: the result is the least-squares fit
    of the remaining weights (optimal brain surgeon, Hassibi and Stork 1992), damping included."""
    weight, inputs = layer(5, 8, 60)
    weight[:, :4] *= 1e-3  # the first half of each row has the lowest scores
    hessian = moment_of(inputs).double()
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(8, dtype=torch.float64)
    found = sparsegpt(weight, hessian.float(), HALF)
    assert bool((found.weight[:, :4] == 0).all())
    wide = weight.double()
    exact = wide[:, 4:] + torch.linalg.solve(damped[4:, 4:], damped[4:, :4] @ wide[:, :4].T).T
    torch.testing.assert_close(found.weight[:, 4:].double(), exact, rtol=1e-4, atol=1e-5)


def test_sparsegpt_is_close_to_the_best_of_all_masks_on_a_tiny_layer() -> None:
    """Every mask of half of six weights, each with the least-squares weights: the best of them bounds what any
    method can reach; one pass with columns in order stays within a factor of it, and far below no correction."""
    ratios, plain = [], []
    for seed in range(12):
        weight, inputs = layer(1, 6, 40, seed)
        hessian = moment_of(inputs).double()
        best = min(
            output_error(weight, _refitted(weight, hessian, list(rest)), inputs)
            for rest in itertools.combinations(range(6), 3)
        )
        ratios.append(
            output_error(weight, sparsegpt(weight, hessian.float(), HALF, damping=1e-4).weight, inputs) / best
        )
        plain.append(output_error(weight, weight * magnitude(weight, HALF), inputs) / best)
    assert min(ratios) >= 1 - 1e-4
    assert sum(ratios) / len(ratios) < 0.7 * sum(plain) / len(plain)


def _refitted(weight: Tensor, hessian: Tensor, rest: list[int]) -> Tensor:
    """The weights of these columns that fit the outputs of all best."""
    found = torch.zeros_like(weight, dtype=torch.float64)
    found[:, rest] = torch.linalg.solve(hessian[rest][:, rest], hessian[rest] @ weight.double().T).T
    return found


@pytest.mark.parametrize("target", [HALF, TWO_OF_FOUR, Target(0.5, Pattern(4, 8))], ids=str)
def test_sparsegpt_beats_wanda_and_wanda_beats_magnitude_on_the_layers_output(target: Target) -> None:
    weight, inputs = layer(64, 128, 600)
    by = {
        "magnitude": weight * magnitude(weight, target),
        "wanda": weight * wanda(weight, squares_of(inputs), target),
        "sparsegpt": sparsegpt(weight, moment_of(inputs), target).weight,
    }
    errors = {name: output_error(weight, changed, inputs) for name, changed in by.items()}
    assert errors["sparsegpt"] < 0.9 * errors["wanda"] < 0.9 * errors["magnitude"]


@pytest.mark.parametrize("pattern", [Pattern(2, 4), Pattern(1, 4), Pattern(3, 8)], ids=str)
def test_sparsegpt_leaves_n_of_every_m(pattern: Pattern) -> None:
    weight, inputs = layer(20, 48, 200)
    found = sparsegpt(weight, moment_of(inputs), Target(pattern.sparsity, pattern), block=20)
    assert bool(((found.weight != 0).unflatten(1, (-1, pattern.of)).sum(-1) == pattern.kept).all())


def test_sparsegpt_with_a_grid_rounds_what_stays_and_loses_less_than_rounding_afterwards() -> None:
    weight, inputs = layer(48, 96, 400)
    moment, grid = moment_of(inputs), Grid(bits=4, group=32)
    joint = sparsegpt(weight, moment, HALF, grid=grid)
    assert joint.rounded is not None
    assert torch.equal(joint.weight, dense(joint.rounded))
    assert share_of_zeros(joint.weight) >= 0.5
    alone = sparsegpt(weight, moment, HALF).weight
    after = dense(grid.round(alone, *grid.scales(alone)))
    assert output_error(weight, joint.weight, inputs) < output_error(weight, after, inputs)


def test_columns_without_input_go_first_and_do_no_harm() -> None:
    weight, inputs = layer(16, 32, 200)
    inputs[:, [3, 17]] = 0
    found = sparsegpt(weight, moment_of(inputs), HALF)
    assert bool((found.weight[:, [3, 17]] == 0).all())
    assert bool(found.weight.isfinite().all())
    assert not bool(wanda(weight, squares_of(inputs), HALF)[:, [3, 17]].any())


def test_inputs_that_are_not_finite_are_refused() -> None:
    weight, inputs = layer(4, 8, 20)
    inputs[3, 2] = torch.inf
    with pytest.raises(LuhuoError, match="not finite"):
        sparsegpt(weight, moment_of(inputs), HALF)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_global_threshold_is_that_of_all_matrices_sorted_together(sparsity: float, dtype: torch.dtype) -> None:
    matrices = [torch.randn(30, 20, generator=torch.Generator().manual_seed(s)).to(dtype) * (s + 1) for s in range(3)]
    threshold = global_threshold(lambda: iter(matrices), sparsity)
    every = torch.cat([m.float().abs().flatten() for m in matrices]).sort().values
    gone = round(sparsity * len(every))
    assert threshold == (-1.0 if gone == 0 else float(every[gone - 1]))
    assert sum(int((m.float().abs() <= threshold).sum()) for m in matrices) >= gone


def test_magnitude_keeps_the_largest_of_each_row_or_of_the_matrix() -> None:
    weight = torch.tensor([[1.0, -8.0, 2.0, 7.0], [0.1, 0.2, -0.4, 0.3]])
    assert magnitude(weight, HALF).tolist() == [[False, True, False, True], [False, False, True, True]]
    assert magnitude(weight, HALF, "matrix").tolist() == [[True, True, True, True], [False, False, False, False]]


def test_blocks_with_more_outliers_lose_less_and_the_mean_stays() -> None:
    sizes = [100, 300, 100]
    found = owl([0.01, 0.02, 0.05], sizes, 0.6)
    assert found == sorted(found, reverse=True)
    assert sum(s * n for s, n in zip(found, sizes, strict=True)) / 500 == pytest.approx(0.6)
    assert max(found) - min(found) == pytest.approx(2 * 0.08)
    assert owl([0.02, 0.02], [1, 1], 0.7) == [0.7, 0.7]
    assert all(0 <= share <= 1 for share in owl([0.0, 0.1], [1, 1], 0.97))


def test_outliers_are_counted_by_their_scores() -> None:
    weight = torch.ones(4, 8)
    weight[0, 0] = 100.0
    assert outliers(weight, torch.ones(8)) == (1, 32)
    large = torch.ones(8)
    large[3] = 1e6
    assert outliers(torch.ones(4, 8), large)[0] == 4
