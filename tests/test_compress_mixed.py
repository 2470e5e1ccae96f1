"""Mixed bits: the knapsack against trying everything, and the expected divergence against the one that is measured."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
import torch

from luhuo.compress.mixed import allocate, matrix_bits
from luhuo.compress.sensitivity import block_costs, output_fisher
from luhuo.compress.walk import Walk
from luhuo.core.errors import LuhuoError
from luhuo.model.grid import Grid, dense
from luhuo.model.load import load
from luhuo.model.save import save
from tests.small_chat import small_model


@pytest.mark.parametrize("seed", range(6))
def test_the_allocation_is_the_best_of_all_that_fit(seed: int) -> None:
    generator = random.Random(seed)
    names = "abcdef"
    elements = {name: 64 * generator.randint(1, 40) for name in names}
    costs = {n: {b: generator.random() * 4.0**-b for b in (2, 3, 4, 8)} for n in names}
    sizes = {n: {b: elements[n] * b for b in (2, 3, 4, 8)} for n in names}
    limit = int(sum(elements.values()) * generator.uniform(2.2, 6))
    found = allocate(costs, sizes, limit)
    assert sum(sizes[n][found[n]] for n in names) <= limit
    best = min(
        sum(costs[n][b] for n, b in zip(names, bits, strict=True))
        for bits in itertools.product((2, 3, 4, 8), repeat=len(names))
        if sum(sizes[n][b] for n, b in zip(names, bits, strict=True)) <= limit
    )
    assert sum(costs[n][found[n]] for n in names) == pytest.approx(best)


def test_sizes_that_share_no_unit_still_fit() -> None:
    sizes = {f"m{i}": {b: (100_003 + 17 * i) * b for b in (2, 4)} for i in range(12)}
    costs = {name: {2: 1.0 + number, 4: 0.0} for number, name in enumerate(sizes)}
    limit = sum(of[2] for of in sizes.values()) + 3 * 2 * 101_000
    found = allocate(costs, sizes, limit)
    assert sum(sizes[name][bits] for name, bits in found.items()) <= limit
    assert [name for name, bits in found.items() if bits == 4] == ["m9", "m10", "m11"]


def test_a_size_that_cannot_be_reached_is_refused() -> None:
    with pytest.raises(LuhuoError, match="fewest bits"):
        allocate({"a": {2: 1.0, 4: 0.0}}, {"a": {2: 200, 4: 400}}, 199)


def test_a_matrix_takes_its_integers_and_a_scale_for_each_group() -> None:
    assert matrix_bits(10, 128, 4, 64, zeros=False) == 10 * (128 * 4 + 2 * 16)
    assert matrix_bits(10, 128, 4, 64, zeros=True) == 10 * (128 * 4 + 2 * 20)
    assert matrix_bits(10, 128, 16, 64, zeros=False) == 10 * 128 * 16


def test_the_expected_divergence_is_close_to_the_measured_one(tmp_path: Path) -> None:
    save(small_model(), tmp_path / "model")
    ids = torch.randint(10, 300, (24, 48), generator=torch.Generator().manual_seed(0))
    fisher = output_fisher(tmp_path / "model", ids, 0)
    costs = {}
    with Walk(tmp_path / "model", ids, tmp_path / "walk") as walk:
        for step in walk:
            costs |= block_costs(step, fisher, [Grid(3, 32), Grid(2, 32)])
    model = load(tmp_path / "model", dtype="fp32", device="cpu")
    with torch.no_grad():
        before = torch.log_softmax(model(ids), -1)
        for name, of_bits in costs.items():
            for bits, expected in of_bits.items():
                weight = model.get_submodule(name).weight
                kept, grid = weight.clone(), Grid(bits, 32)  # type: ignore[operator, arg-type]
                weight.copy_(dense(grid.round(kept, *grid.scales(kept))))  # type: ignore[operator, arg-type]
                after = torch.log_softmax(model(ids), -1)
                weight.copy_(kept)  # type: ignore[operator]
                measured = float((before.exp() * (before - after)).sum(-1).mean())
                assert 0.4 < expected / measured < 2.5, (name, bits, expected, measured)
