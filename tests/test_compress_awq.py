"""AWQ: scales and cut ranges against the paper's equations in float64, and folding that changes nothing."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from luhuo.compress.awq import cut_ranges, search
from luhuo.compress.folding import fold, folds
from luhuo.kernels.packed import Width
from luhuo.model.decoder import Decoder
from luhuo.model.grid import Grid, dense
from luhuo.model.load import load
from luhuo.model.save import save
from tests.compress_cases import divergence, quantised, report_of, small_directory
from tests.family_cases import CASES
from tests.family_checks import publish, random_ids, reference
from tests.small_chat import small_model


def layer(columns: int = 64, rows: int = 24, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Correlated inputs (tokens, columns) of very different sizes, and a matrix (rows, columns)."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.eye(columns) + 0.1 * torch.randn(columns, columns, generator=generator)
    sizes = torch.exp(torch.randn(columns, generator=generator))
    inputs = torch.randn(300, columns, generator=generator) @ mixing * sizes
    return inputs, 0.05 * torch.randn(rows, columns, generator=generator)


def moment_of(inputs: Tensor) -> Tensor:
    return inputs.T @ inputs * (2 / len(inputs))


def asymmetric(weight: Tensor, bits: int, group: int) -> Tensor:
    """Round to the nearest from smallest to largest, in float64, with bf16 scales as files have them."""
    wide = weight.double().unflatten(1, (-1, group))
    low, high = wide.amin(-1, keepdim=True).clamp(max=0), wide.amax(-1, keepdim=True).clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).float().bfloat16().double()
    zero = (-low / scale).round().clamp(0, 2**bits - 1)
    return (((wide / scale).round() + zero).clamp(0, 2**bits - 1).sub(zero) * scale).flatten(1)


@pytest.mark.parametrize("bits", [4, 3])
def test_scales_are_as_good_as_the_papers_search_in_float64(bits: Width) -> None:
    inputs, weight = layer()
    x, w = inputs.double(), weight.double()
    magnitude = x.abs().mean(0)
    errors = []
    for step in range(20):  # equations 4 and 5: s = s_x^α, the error of the outputs themselves
        scale = magnitude ** (step / 20)
        scale = scale / (scale.max() * scale.min()).sqrt()
        rounded = asymmetric(w * scale, bits, 32) / scale
        errors.append(float((x @ (rounded - w).T).square().sum() / (x @ w.T).square().sum()))
    found = search([weight], moment_of(inputs), inputs.abs().mean(0), [Grid(bits, 32, symmetric=False)])
    assert found.plain == pytest.approx(errors[0], rel=0.01)
    assert found.error <= min(errors) * 1.01
    assert found.error < 0.85 * found.plain


def test_without_the_weights_share_the_chosen_error_is_the_papers() -> None:
    inputs, weight = layer(seed=3)
    grid = Grid(4, 32, symmetric=False)
    found = search([weight], moment_of(inputs), inputs.abs().mean(0), [grid])
    x, w, scale = inputs.double(), weight.double(), found.scale.double()
    error = x @ (asymmetric(w * scale, 4, 32) / scale - w).T
    assert found.error == pytest.approx(float(error.square().sum() / (x @ w.T).square().sum()), rel=0.01)


def test_matrices_that_share_an_input_get_the_scales_that_serve_both() -> None:
    inputs, first = layer()
    second = 3 * layer(seed=1)[1]
    together = search([first, second], moment_of(inputs), inputs.abs().mean(0), 2 * [Grid(3, 32)])
    stacked = search([torch.cat([first, second])], moment_of(inputs), inputs.abs().mean(0), [Grid(3, 32)])
    assert torch.equal(together.scale, stacked.scale)
    assert together.error == pytest.approx(stacked.error, rel=1e-5)


def authors_cut(inputs: Tensor, weight: Tensor, bits: int, group: int) -> Tensor:
    """The clipping of the authors' program in float64: each group's own products, shares 1 … 0.55 of its range."""
    x = inputs.double().unflatten(1, (-1, group))  # (tokens, groups, group)
    wide = weight.double().unflatten(1, (-1, group))
    best, least = wide.clone(), torch.full(wide.shape[:2], torch.inf, dtype=torch.float64)
    for step in range(10):
        share = 1 - step / 20
        cut = wide.clamp(wide.amin(-1, keepdim=True) * share, wide.amax(-1, keepdim=True) * share)
        rounded = asymmetric(cut.flatten(1), bits, group).unflatten(1, (-1, group))
        cost = torch.einsum("tgi,rgi->trg", x, rounded - wide).square().sum(0)
        best = torch.where((cost < least)[..., None], rounded, best)
        least = torch.minimum(cost, least)
    return best.flatten(1)


def test_cut_ranges_are_no_worse_than_the_authors_and_no_row_loses() -> None:
    inputs, weight = layer()
    grid = Grid(3, 32, symmetric=False, search=False)

    def costs(changed: Tensor) -> Tensor:
        return (inputs.double() @ (changed.double() - weight.double()).T).square().sum(0)

    cut = costs(dense(grid.round(weight, *cut_ranges(weight, moment_of(inputs), grid))))
    assert bool((cut <= costs(dense(grid.round(weight, *grid.scales(weight)))) * (1 + 1e-4)).all())
    assert float(cut.sum()) <= 1.01 * float(costs(authors_cut(inputs, weight, 3, 32)).sum())


def test_a_column_without_input_and_a_matrix_of_zeros_do_no_harm() -> None:
    inputs, weight = layer()
    inputs[:, 5] = 0
    found = search([weight, torch.zeros(4, 64)], moment_of(inputs), inputs.abs().mean(0), 2 * [Grid(4, 32)])
    assert bool(found.scale.isfinite().all()) and bool((found.scale > 0).all())


def scaled_everywhere(model: Decoder) -> set[str]:
    """Fold random scales wherever that is possible; the names of the matrices that took some."""
    generator, seen = torch.Generator().manual_seed(1), set()
    for block in model.blocks:
        for place in folds(block):  # type: ignore[arg-type]
            columns = block.get_submodule(place.matrices[0]).weight.shape[1]  # type: ignore[union-attr]
            fold(block, place, torch.exp(0.7 * torch.randn(columns, generator=generator)))  # type: ignore[arg-type]
            seen.update(place.matrices)
    return seen


def published_case(name: str, folder: Path) -> Decoder:
    publish(CASES[name], reference(CASES[name]), folder)
    return load(folder, dtype="fp32", device="cpu")  # type: ignore[return-value]


FOLDED = {
    "llama": {"attention.qkv", "attention.out", "mlp.gate_up", "mlp.down"},
    "gemma": {"attention.qkv", "attention.out", "mlp.gate_up", "mlp.down"},  # the stored weight is one less
    "opt": {"attention.qkv", "attention.out", "mlp.up", "mlp.down"},  # LayerNorm with bias, ReLU
    "gpt_neox": {"attention.qkv", "attention.out", "mlp.up"},  # GELU passes no factor
    "cohere": {"attention.qkv", "attention.out", "mlp.gate_up", "mlp.down"},  # one norm for both branches
    "olmo2": {"attention.out", "mlp.down"},  # norms behind the branches
    "deepseek-v3": {
        *("attention.q_down", "attention.q_up", "attention.kv_down", "attention.kv_up"),
        *("mlp.gate_up", "mlp.down"),
    },
    "mixtral": {"attention.qkv", "attention.out"},  # the router reads the same input as the experts
}


@pytest.mark.parametrize("name", FOLDED)
def test_folded_scales_change_no_logits(name: str, tmp_path: Path) -> None:
    model, ids = published_case(name, tmp_path), random_ids(2, 20)
    with torch.no_grad():
        before = model(ids)
        assert scaled_everywhere(model) == FOLDED[name]
        after = model(ids)
    assert (after - before).abs().max() <= 1e-5 * before.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_folded_scales_change_no_logits_in_any_family(name: str, tmp_path: Path) -> None:
    model, ids = published_case(name, tmp_path), random_ids(2, 20)
    with torch.no_grad():
        before = model(ids)
        scaled_everywhere(model)
        after = model(ids)
    assert (after - before).abs().max() <= 1e-5 * before.abs().max()


def test_a_folded_model_is_the_same_after_saving_its_norms_in_bf16(tmp_path: Path) -> None:
    model, ids = small_model(), random_ids(2, 20)
    scaled_everywhere(model)
    for name, parameter in model.named_parameters():
        if "norm" in name and "q_norm" not in name and "k_norm" not in name and name.startswith("blocks."):
            assert torch.equal(parameter, parameter.bfloat16().float()), name
    save(model, tmp_path)
    again = load(tmp_path, dtype="fp32", device="cpu")
    with torch.no_grad():
        assert torch.equal(again(ids), model(ids))


def test_a_feature_that_a_norm_switches_off_is_left_alone() -> None:
    model = small_model()
    block = copy.deepcopy(model.blocks[0])
    with torch.no_grad():
        block.attention_norm.weight[3] = 0  # type: ignore[union-attr, index]
    place = next(p for p in folds(block) if p.matrices == ("attention.qkv",))  # type: ignore[arg-type]
    taken = fold(block, place, torch.full((64,), 2.0))  # type: ignore[arg-type]
    assert taken[3] == 1 and bool((taken[:3] == 2).all())
    assert block.attention_norm.weight[3] == 0  # type: ignore[union-attr, index]


@pytest.mark.parametrize("family", ["llama", "olmo2"])
def test_the_stage_rounds_every_matrix_with_less_error_than_plain_rounding(family: str, tmp_path: Path) -> None:
    model = small_directory(tmp_path / "model", family=family, **NORMS[family])
    plain, found = (
        quantised(model, tmp_path / method, method=method, bits=4, group=32, symmetric=False)
        for method in ("rtn", "awq")
    )
    errors = [{row["name"]: row["error"] for row in report_of(out)} for out in (plain, found)]
    assert errors[0].keys() == errors[1].keys()
    assert sum(errors[1].values()) < 0.9 * sum(errors[0].values())
    told = {row["name"]: row["scaled"] for row in report_of(found)}
    assert (told["blocks.0.attention.qkv"] == "nothing before it to fold into") == (family == "olmo2")
    assert divergence(found, model) < 1.0  # its logits are large: a random model is chaotic


NORMS: dict[str, dict[str, Any]] = {
    "llama": {"qk_norm": "none"},
    "olmo2": {"block": "output", "qk_norm": "full"},
}
