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
from tests.compress_cases import divergence, quantised, report_of, small_directory
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


def test_the_stage_keeps_to_the_size_and_beats_equal_bits(tmp_path: Path) -> None:
    model = small_directory(tmp_path / "model")
    equal = quantised(model, tmp_path / "equal", method="rtn", bits=3, group=32)
    mixed = quantised(model, tmp_path / "mixed", method="rtn", average_bits=3.0, group=32)
    sizes = [sum(file.stat().st_size for file in out.glob("*.safetensors")) for out in (equal, mixed)]
    assert sizes[1] <= sizes[0] + 2000  # names of several config groups
    assert len({row["bits"] for row in report_of(mixed)}) > 1
    assert divergence(mixed, model) < divergence(equal, model)


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_a_size_in_megabytes_counts_everything_and_whole_matrices_may_stay(method: str, tmp_path: Path) -> None:
    model = small_directory(tmp_path / "model")
    bytes_of = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    limit = 0.8 * bytes_of
    out = quantised(model, tmp_path / "out", method=method, megabytes=limit / 1e6, choices=[4, 16], group=32)
    assert sum(file.stat().st_size for file in out.glob("*.safetensors")) <= limit + 4000
    told = {row["bits"] for row in report_of(out)}
    assert told == {4} and 0 < len(report_of(out)) < 8
    assert divergence(out, model) < 0.1


@pytest.mark.parametrize("bits", [8, 4])
def test_the_embedding_takes_its_bits_and_is_read_again(bits: int, tmp_path: Path) -> None:
    model = small_directory(tmp_path / "model")
    sizes, losses = [], []
    for embedding in (16, bits):
        out = quantised(
            model, tmp_path / str(embedding), method="rtn", bits=8, data=None, embedding_bits=embedding, group=32
        )
        sizes.append(sum(file.stat().st_size for file in out.glob("*.safetensors")))
        losses.append(divergence(out, model))
    assert sizes[1] < sizes[0]
    assert losses[1] < {8: 0.01, 4: 1.0}[bits]


def test_a_head_that_is_the_embedding_has_no_bits_of_its_own(tmp_path: Path) -> None:
    model = small_directory(tmp_path / "model")
    with pytest.raises(LuhuoError, match="is its embedding"):
        quantised(model, tmp_path / "out", method="rtn", data=None, head_bits=8)


def test_a_head_of_its_own_takes_its_bits(tmp_path: Path) -> None:
    model = small_directory(tmp_path / "model", tie_embeddings=False)
    out = quantised(model, tmp_path / "out", method="rtn", bits=8, data=None, head_bits=8, embedding_bits=4)
    assert divergence(out, model) < 1.0
