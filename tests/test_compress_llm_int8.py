"""8-bit inputs on a model with planted outlier columns: what plain int8 loses, and LLM.int8 and SmoothQuant keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from luhuo.compress.fp8_weights import fp8
from luhuo.compress.llm_int8 import llm_int8, outliers
from luhuo.compress.parts import dense_of
from luhuo.compress.quantise_stage import QuantizeStage
from luhuo.compress.w8a8 import round_weight
from luhuo.model.adaptable import Adaptable
from luhuo.model.load import load_decoder
from luhuo.model.matrices import Activations
from tests.compress_cases import divergence, quantised, report_of, small_directory


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_directory(tmp_path_factory.mktemp("planted") / "model", size=60.0)


@pytest.fixture(scope="module")
def plain_int8(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    folder = tmp_path_factory.mktemp("plain")
    return {
        scales: divergence(quantised(planted, folder / scales, method="w8a8", activations=scales), planted)
        for scales in ("token", "tensor")
    }


def test_llm_int8_keeps_the_logits_where_plain_int8_does_not(
    planted: Path, plain_int8: dict[str, float], tmp_path: Path
) -> None:
    found = divergence(quantised(planted, tmp_path / "out", method="llm_int8"), planted)
    assert found < plain_int8["token"] / 30
    told = {row["name"]: row["outliers"] for row in report_of(tmp_path / "out")}
    assert told["blocks.0.attention.qkv"] == told["blocks.1.mlp.gate_up"] == 2


@pytest.mark.parametrize("scales", ["token", "tensor"])
def test_smoothing_keeps_the_logits_too(
    planted: Path, plain_int8: dict[str, float], tmp_path: Path, scales: str
) -> None:
    out = quantised(planted, tmp_path / "out", method="smoothquant", activations=scales)
    assert divergence(out, planted) < plain_int8[scales] / 5
    told = {row["name"]: row.get("smoothed") for row in report_of(out)}
    assert told["blocks.0.attention.qkv"] not in (None, "no gain")


def test_a_given_exponent_smooths_behind_norms_only(
    planted: Path, plain_int8: dict[str, float], tmp_path: Path
) -> None:
    out = quantised(planted, tmp_path / "out", method="smoothquant", smoothing=0.5)
    assert divergence(out, planted) < plain_int8["token"] / 5
    smoothed = {row["name"].split(".", 2)[2] for row in report_of(out) if "smoothed" in row}
    assert smoothed == {"attention.qkv", "mlp.gate_up"}


@pytest.mark.parametrize("method", ["w8a8", "llm_int8", "fp8"])
def test_what_is_read_is_what_was_rounded(planted: Path, tmp_path: Path, method: str) -> None:
    original = load_decoder(planted, "fp32", "cpu")
    found = load_decoder(quantised(planted, tmp_path / "out", method=method, data=None), "fp32", "cpu")
    for name in ("blocks.0.attention.qkv", "blocks.1.mlp.down"):
        weight = original.get_submodule(name).weight.detach()  # type: ignore[union-attr]
        expected = dense_of(fp8(weight) if method == "fp8" else round_weight(weight))  # type: ignore[arg-type]
        module = found.get_submodule(name)
        assert isinstance(module, Adaptable)
        assert torch.equal(module.dense(torch.float32), expected)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"method": "smoothquant", "data": None}, "data"),
        ({"method": "llm_int8", "bits": 4}, "8 bits"),
        ({"method": "fp8", "activations": "tensor"}, "activations"),
        ({"method": "w8a8", "activations": "none"}, "token or tensor"),
        ({"method": "w8a8", "average_bits": 4.0}, "average_bits"),
        ({"method": "gptq", "average_bits": 4.0, "megabytes": 3.0}, "not both"),
    ],
)
def test_settings_that_say_nothing_together_are_refused(wrong: dict[str, Any], told: str) -> None:
    settings: dict[str, Any] = {"model": "m", "data": "text"} | wrong
    with pytest.raises(ValueError, match=told):
        QuantizeStage(**settings)


def test_rows_say_their_threshold_and_columns_above_it_are_counted() -> None:
    weight = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    assert llm_int8(weight).activations == Activations(threshold=6.0)
    assert outliers(torch.tensor([5.9, 6.0, 6.1, 100.0])) == 2
