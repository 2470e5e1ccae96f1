"""Quantising a mixture of experts: each expert for the tokens it is sent, and what is said of those it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import luhuo.compress.experts as experts_module
import luhuo.compress.quantise as quantise_module
from luhuo.compress.calibration import sequences
from luhuo.compress.gptq import gptq, relative_error
from luhuo.compress.inputs import SecondMoment
from luhuo.compress.low_rank.stage import FactoriseStage
from luhuo.compress.prune.stages import PruneStage
from luhuo.compress.walk import Walk
from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.model.config import MoEConfig
from luhuo.model.grid import Grid, dense
from luhuo.model.load import load_decoder
from luhuo.model.quantised_experts import QuantisedMatrices
from luhuo.model.save import save
from tests.compress_cases import calibration_text, divergence, quantised, report_of
from tests.small_chat import small_model

EXPERTS = 6
MOE = MoEConfig(experts=EXPERTS, active=2, intermediate_size=40)
FIRST, SECOND = "blocks.0.mlp.experts.gate_up", "blocks.0.mlp.experts.down"


def mixture(folder: Path, **changes: Any) -> Path:
    model = small_model(**{"family": "qwen3_moe", "tie_embeddings": False, "moe": MOE} | changes)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if ".experts." in name and parameter.dim() == 3:
            parameter.data = torch.randn(parameter.shape, generator=generator) * parameter.shape[2] ** -0.5
    save(model, folder)
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixture(tmp_path_factory.mktemp("mixture") / "model")


def stacks_in(folder: Path) -> list[QuantisedMatrices]:
    return [
        module for module in load_decoder(folder, "auto", "cpu").modules() if isinstance(module, QuantisedMatrices)
    ]


@pytest.mark.parametrize("method", ["rtn", "gptq", "awq", "awq_gptq"])
def test_experts_are_rounded_with_the_rest(plain: Path, tmp_path: Path, method: str) -> None:
    out = quantised(plain, tmp_path / "out", method=method, bits=4, group=8)
    layers = load_decoder(plain, "fp32", "cpu").config.layers
    assert len(stacks_in(out)) == 2 * layers and all(stack.bits == 4 for stack in stacks_in(out))
    rows = {row["name"]: row for row in report_of(out)}
    assert rows[FIRST]["shape"][0] == EXPERTS and 0 < rows[FIRST]["error"] < 0.05 and rows[FIRST]["unseen"] == 0
    assert divergence(out, plain) < 0.5  # here and there a random router tips


def test_gptq_loses_less_of_the_experts_than_rounding_to_the_nearest(plain: Path, tmp_path: Path) -> None:
    found = {}
    for method in ("rtn", "gptq"):
        rows = report_of(quantised(plain, tmp_path / method, method=method, bits=3, group=8))
        found[method] = sum(row["error"] for row in rows if "experts" in row["name"])
    assert found["gptq"] < 0.8 * found["rtn"]


def test_an_experts_inputs_are_the_tokens_it_is_sent(plain: Path, tmp_path: Path) -> None:
    """Second moments of every expert, written out for each token, and GPTQ with them."""
    model = load_decoder(plain, "fp32", "cpu")
    ids = sequences(str(calibration_text(tmp_path)), model.tokenizer, 6, 48)  # type: ignore[arg-type]
    mlp = model.blocks[0].mlp
    seen: list[Tensor] = []
    mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten(0, 1)))  # type: ignore[union-attr]
    with torch.no_grad():
        model(ids)
        x = torch.cat(seen)
        _, chosen, _ = mlp.router(x)  # type: ignore[union-attr, operator]
    with Walk(plain, ids, tmp_path / "walk") as walk:
        step = next(iter(walk))
        for name, weight in step.expert_matrices.items():
            moments = {expert: SecondMoment(weight.shape[2]) for expert in range(EXPERTS)}
            step.collect_of_experts(name, moments)
            for expert, moment in moments.items():
                rows = x[(chosen == expert).any(-1)]
                if name.endswith("down"):
                    gate, up = (rows @ mlp.experts.gate_up[expert].T).chunk(2, -1)  # type: ignore[union-attr, index]
                    rows = torch.nn.functional.silu(gate) * up
                assert moment.count == len(rows)
                expected = 2 / len(rows) * rows.T @ rows
                torch.testing.assert_close(moment.moment, expected.detach(), rtol=1e-4, atol=1e-5)
    assert torch.equal(load_decoder(plain, "fp32", "cpu")(ids[:1]), model(ids[:1]))


def test_lots_of_experts_give_what_all_at_once_do(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = quantised(plain, tmp_path / "whole", method="gptq", bits=3, group=8)
    monkeypatch.setattr(experts_module, "MOMENT_BYTES", 2 * 4 * 64**2)
    in_lots = quantised(plain, tmp_path / "lots", method="gptq", bits=3, group=8)
    for name in ("model.safetensors", "report.json"):
        assert (in_lots / name).read_bytes() == (at_once / name).read_bytes()


def test_an_expert_that_no_token_reaches_is_rounded_to_the_nearest(tmp_path: Path) -> None:
    moe = MOE.model_copy(update={"score": "sigmoid", "correction": True, "balance_over": "sequence"})
    model = small_model(**{"family": "glm4_moe", "tie_embeddings": False, "moe": moe})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("router.correction"):
                parameter[4] = -100
    save(model, tmp_path / "model")
    out = quantised(tmp_path / "model", tmp_path / "out", method="gptq", bits=3, group=8)
    rows = [row for row in report_of(out) if "experts" in row["name"]]
    assert rows and all(row["unseen"] == 1 for row in rows)
    name = rows[0]["name"]
    whole = load_decoder(tmp_path / "model", "fp32", "cpu").get_parameter(name)[4].detach()
    found = load_decoder(out, "fp32", "cpu").get_parameter(name)[4].detach()
    grid = Grid(3, 8)
    assert torch.equal(found, dense(grid.round(whole, *grid.scales(whole))))


def test_few_inputs_are_believed_the_less() -> None:
    """GPTQ fitted to ten tokens is worse on others than with the damping that experts get."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.eye(64) + 0.2 * torch.randn(64, 64, generator=generator)
    few, other = (torch.randn(count, 64, generator=generator) @ mixing for count in (10, 2000))
    weight = torch.randn(32, 64, generator=generator)
    errors = []
    for short in (1.0, 6.4):
        rounded = dense(gptq(weight, 2 / 10 * few.T @ few, Grid(3, 16), damping=0.01 * short).rounded)
        errors.append(float(((rounded - weight) @ other.T).square().sum()))
    assert errors[1] < errors[0]


def test_a_walk_that_was_cut_off_goes_on(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"method": "gptq", "bits": 3, "group": 8}
    whole = quantised(plain, tmp_path / "whole", **settings)
    rounding, calls = quantise_module.round_experts, []

    def failing(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return rounding(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(quantise_module, "round_experts", failing)
        with pytest.raises(LuhuoError, match="space"):
            quantised(plain, tmp_path / "cut", **settings)
    again = quantised(plain, tmp_path / "cut", **settings)
    for name in ("model.safetensors", "report.json"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("fields", [{"method": "w8a8"}, {"method": "gptq", "average_bits": 4}])
def test_experts_that_stay_as_they_are_are_told(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fields: dict[str, Any]
) -> None:
    out = quantised(plain, tmp_path / "out", **fields)
    assert "experts' matrices stay" in capsys.readouterr().err
    before, after = (load_decoder(folder, "fp32", "cpu").get_parameter(FIRST) for folder in (plain, out))
    assert torch.equal(before, after)


def test_experts_that_are_published_as_one_tensor_stay_as_they_are(tmp_path: Path) -> None:
    moe = MOE.model_copy(update={"router_bias": True, "expert_bias": True, "limit": 7.0})
    bias = {"qkv_bias": True, "out_bias": True}
    shape = {"qk_norm": "none", "attention_sinks": True, "windows": (128, 0), "activation": "quick_gelu"}
    model = mixture(tmp_path / "model", family="gpt_oss", moe=moe, **bias, **shape)
    out = quantised(model, tmp_path / "out", method="gptq", bits=4, group=8)
    before, after = (load_decoder(folder, "fp32", "cpu").get_parameter(SECOND) for folder in (model, out))
    assert torch.equal(before, after)
    assert not [row for row in report_of(out) if "experts" in row["name"]]


def pruned(model: Path, out: Path, **fields: Any) -> Path:
    settings = {"model": str(model), "data": str(calibration_text(out.parent)), "sequences": 6, "length": 48}
    if fields["method"] == "magnitude":
        settings = {"model": str(model)}
    produce("prune", PruneStage.parse(settings | {"threads": 1} | fields), out)
    return out


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
@pytest.mark.parametrize("how", [{"sparsity": 0.5}, {"pattern": "2:4"}])
def test_half_of_each_experts_weights_go(plain: Path, tmp_path: Path, method: str, how: dict[str, Any]) -> None:
    out = pruned(plain, tmp_path / "out", method=method, **how)
    model = load_decoder(out, "fp32", "cpu")
    for name in (FIRST, SECOND):
        for weight in model.get_parameter(name):
            assert (weight == 0).float().mean() == pytest.approx(0.5, abs=0.01)
            if "pattern" in how:
                assert int((weight.unflatten(1, (-1, 4)) != 0).sum(-1).max()) == 2
    rows = {row["name"]: row for row in report_of(out)}
    assert rows[FIRST]["sparsity"] == pytest.approx(0.5, abs=0.01) and ("error" in rows[FIRST]) == (
        method == "sparsegpt"
    )


def test_what_each_method_takes_of_the_experts_outputs(plain: Path, tmp_path: Path) -> None:
    """The error of the first block's first matrices on the tokens they are sent: each method better than the last."""
    model = load_decoder(plain, "fp32", "cpu")
    ids = sequences(str(calibration_text(tmp_path)), model.tokenizer, 40, 48)  # type: ignore[arg-type]
    with Walk(plain, ids, tmp_path / "walk") as walk:
        step = next(iter(walk))
        seen = {expert: SecondMoment(64) for expert in range(EXPERTS)}
        step.collect_of_experts("mlp.experts.gate_up", seen)
    whole, errors = model.get_parameter(FIRST).detach(), []
    for method in ("magnitude", "wanda", "sparsegpt"):
        more = {} if method == "magnitude" else {"sequences": 40}
        out = pruned(plain, tmp_path / method, method=method, sparsity=0.5, **more)
        found = load_decoder(out, "fp32", "cpu").get_parameter(FIRST).detach()
        errors.append(sum(relative_error(whole[e], found[e], one.moment) for e, one in seen.items()) / EXPERTS)
    assert errors[2] < errors[1] < errors[0]


def test_experts_are_pruned_and_rounded_in_one_pass(plain: Path, tmp_path: Path) -> None:
    out = pruned(plain, tmp_path / "out", method="sparsegpt", sparsity=0.5, bits=4, group=8)
    assert len(stacks_in(out)) == 4
    found = load_decoder(out, "fp32", "cpu").get_parameter(SECOND)
    assert (found == 0).float().mean() > 0.49


def test_one_threshold_for_all_counts_the_experts_too(plain: Path, tmp_path: Path) -> None:
    out = pruned(plain, tmp_path / "out", method="magnitude", sparsity=0.5, scope="global")
    model = load_decoder(out, "fp32", "cpu")
    kept = [p for n, p in model.named_parameters() if n.startswith("blocks.") and p.dim() > 1 and "router" not in n]
    zeros = sum(int((p == 0).sum()) for p in kept)
    assert zeros / sum(p.numel() for p in kept) == pytest.approx(0.5, abs=0.001)


def test_factorising_leaves_experts_whole_and_says_so(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {
        "model": str(plain),
        "method": "svd",
        "ratio": 0.5,
        "allocation": "uniform",
        "refit": False,
        "threads": 1,
    }
    produce("factorise", FactoriseStage.parse(settings), tmp_path / "out")
    assert "experts' matrices stay" in capsys.readouterr().err
    before, after = (load_decoder(folder, "fp32", "cpu").get_parameter(FIRST) for folder in (plain, tmp_path / "out"))
    assert torch.equal(before, after)
