"""However two or four processes divide the work, the loss, its norm and every gradient are those of one process."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.train.parallel_config import Parallel
from luhuo.train.pieces import Cut, Member, Split
from tests.parallel_cases import MODELS, gradients, read_gradients, together, write_gradients

EXPERTS = [name for name in MODELS if "experts" in name]
PAIRS = [
    (name, {kind: 2}) for name in MODELS for kind in ("dp", "fsdp", "tp", "ep") if kind != "ep" or name in EXPERTS
]
QUICK = [
    ("plain", {"tp": 2}),
    ("plain", {"fsdp": 2}),
    ("one key head", {"tp": 2}),
    ("sinks and biases", {"tp": 2}),
    ("experts", {"ep": 2}),
    ("latent attention, experts, two tokens", {"fsdp": 2}),
    ("latent attention, experts, two tokens", {"tp": 2}),
    ("latent attention, experts, two tokens", {"ep": 2}),
    ("encoder", {"tp": 2}),
    ("encoder-decoder", {"fsdp": 2}),
    ("encoder-decoder", {"tp": 2}),
]
PRODUCTS: list[dict[str, Any]] = [{"dp": 2, "fsdp": 2}, {"dp": 2, "tp": 2}, {"fsdp": 2, "tp": 2}, {"tp": 4}]
OF_EXPERTS: list[dict[str, Any]] = [{"dp": 2, "ep": 2}, {"fsdp": 2, "ep": 2}, {"ep": 2, "tp": 2}]
FOURS = [(name, layout) for name in MODELS for layout in PRODUCTS + (OF_EXPERTS if name in EXPERTS else [])]


@cache
def alone(name: str) -> dict[str, Tensor]:
    return gradients(name, {})


def check(folder: Path, count: int, cases: list[tuple[str, dict[str, Any]]], rows: int) -> None:
    together(count, write_gradients, folder, [(*case, rows) for case in cases])
    for number, (name, layout) in enumerate(cases):
        found, expected = read_gradients(folder, number), alone(name)
        assert found.keys() == expected.keys(), (name, layout)
        for key, tensor in expected.items():
            assert found[key].shape == tensor.shape, (name, layout, key)
            assert torch.allclose(found[key], tensor, rtol=1e-4, atol=1e-5), (name, layout, key)


def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    check(tmp_path, 2, QUICK, rows=1)  # micro-batches: their gradients are summed over the processes once


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one_for_every_kind_of_model(tmp_path: Path) -> None:
    check(tmp_path, 2, PAIRS, rows=1)


@pytest.mark.slow
def test_four_processes_have_the_gradients_of_one_for_every_product_of_two_ways(tmp_path: Path) -> None:
    check(tmp_path, 4, FOURS, rows=0)


def test_what_the_processes_hold_of_a_fused_projection_makes_the_whole() -> None:
    whole = torch.arange(24.0).view(12, 2)
    split = Split(0, (8, 2, 2), 2)
    shares = [split.taken(whole, index) for index in range(2)]
    assert shares[1][:, 0].tolist() == [8, 10, 12, 14, 18, 22]  # the second half of each of query, key and value
    assert torch.equal(split.joined(shares), whole)


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("rows", [2, 4, 5])
def test_cut_twice_a_tensor_falls_into_boxes_that_cover_it_once(dim: int, rows: int) -> None:
    whole = torch.arange(12 * 6.0).view(12, 6)
    split = Split(dim, (8, 2, 2) if dim == 0 else (4, 2), 2)
    covered = torch.zeros_like(whole)
    for part in range(2):
        for row in range(rows):
            cut = Cut(split, Member(part, 2, None), Member(row, rows, None))
            mine = cut.taken(whole)
            for box in cut.boxes(mine, tuple(whole.shape)):
                assert torch.equal(box.local, whole[box.place])
                covered[box.place] += 1
    assert torch.equal(covered, torch.ones_like(whole))


@pytest.mark.parametrize(
    ("given", "processes", "sizes"),
    [
        ({}, 6, {"dp": 6, "fsdp": 1, "ep": 1, "tp": 1}),
        ({"fsdp": 0}, 6, {"dp": 1, "fsdp": 6, "ep": 1, "tp": 1}),
        ({"tp": 2, "ep": 2}, 8, {"dp": 2, "fsdp": 1, "ep": 2, "tp": 2}),
        ({"dp": 2, "fsdp": 0, "tp": 2}, 16, {"dp": 2, "fsdp": 4, "ep": 1, "tp": 2}),
    ],
)
def test_a_size_of_zero_is_what_the_others_leave(given: dict[str, int], processes: int, sizes: dict[str, int]) -> None:
    assert Parallel(**given).sizes(processes) == sizes


@pytest.mark.parametrize("given", [{"tp": 3}, {"dp": 2, "fsdp": 2, "tp": 2}, {"fsdp": 8}])
def test_sizes_that_do_not_give_the_number_of_processes_are_refused(given: dict[str, int]) -> None:
    with pytest.raises(LuhuoError) as error:
        Parallel(**given).sizes(4)
    assert "dp x fsdp x ep x tp = 4" in str(error.value) and "parallel" in str(error.value)


def test_two_rests_are_refused() -> None:
    with pytest.raises(LuhuoError, match="only one size"):
        Parallel.parse({"fsdp": 0, "tp": 0})
