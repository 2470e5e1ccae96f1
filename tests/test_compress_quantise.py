"""The stage `quantize`: from a model directory to a smaller one that computes what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import luhuo.compress.quantise as quantise_module
from luhuo.compress.calibration import sequences
from luhuo.compress.inputs import SecondMoment
from luhuo.compress.quantise_stage import QuantizeStage
from luhuo.compress.walk import Walk
from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.model.load import load_decoder
from luhuo.model.save import save
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.tokenizer.training import train

TEXT = [
    f"Line {n} of a small text: 第{n}行，水往低处流，{n * n} times. The quick fox number {n} ran." for n in range(400)
]
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "llama": {"family": "llama", "qk_norm": "none", "tie_embeddings": False},
    "biases": {"family": "qwen2", "qk_norm": "none", "qkv_bias": True},
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("\n".join(TEXT), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train(TEXT, vocab_size=400)


def model_of(tokenizer: Tokenizer, **changes: Any) -> Decoder:
    shape = {"hidden_size": 64, "layers": 3, "heads": 4, "kv_heads": 2, "head_dim": 16, "intermediate_size": 96}
    config = ModelConfig(**{"vocab_size": tokenizer.vocab_size, **shape, **changes})
    model = initialise(Decoder(config), 0).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = parameter + 0.2 * noise if parameter.dim() == 1 else noise * parameter.shape[1] ** -0.5
    model.tokenizer = tokenizer
    return model


@pytest.fixture(scope="module", params=FAMILIES)
def source(request: pytest.FixtureRequest, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "model"
    save(model_of(tokenizer, **FAMILIES[request.param]), folder)
    return folder


@pytest.fixture(scope="module")
def plain(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "model"
    save(model_of(tokenizer), folder)
    return folder


def stage_of(model: Path, text: Path, **changes: Any) -> QuantizeStage:
    return QuantizeStage(
        **{"model": str(model), "data": str(text), "sequences": 8, "length": 64, "threads": 1} | changes
    )


def logits(folder: Path, dtype: str = "fp32") -> Tensor:
    model = load_decoder(folder, dtype, "cpu")
    ids = torch.randint(300, (2, 40), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        return model(ids).float()


def divergence(found: Tensor, expected: Tensor) -> float:
    """Mean KL divergence (nats) to the original."""
    return float(torch.nn.functional.kl_div(found.log_softmax(-1), expected.softmax(-1), reduction="sum") / 80)


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_a_quantised_directory_loads_and_is_close(source: Path, text: Path, tmp_path: Path, bits: int) -> None:
    produce("quantize", stage_of(source, text, bits=bits, group=32), tmp_path / "out")
    found = divergence(logits(tmp_path / "out"), logits(source))
    assert found < {8: 1e-3, 4: 0.2, 3: 0.8, 2: 2.0}[bits]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {row["bits"] for row in report} == {bits} and len(report) == 12
    assert all(0 <= row["error"] < 1 for row in report)
    assert not list((tmp_path / "out").glob(".*"))


def test_gptq_is_closer_than_rounding_to_the_nearest(source: Path, text: Path, tmp_path: Path) -> None:
    found = {}
    for method in ("rtn", "gptq"):
        produce("quantize", stage_of(source, text, bits=3, group=32, method=method), tmp_path / method)
        report = json.loads((tmp_path / method / "report.json").read_text())
        found[method] = sum(row["error"] for row in report)
    assert found["gptq"] < 0.8 * found["rtn"]


@pytest.mark.parametrize("order", ["given", "static", "activation"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_what_is_read_is_bit_for_bit_what_was_measured(
    plain: Path, text: Path, tmp_path: Path, order: str, symmetric: bool
) -> None:
    """Rounded to integers, written, read, kept packed, written again: the numbers of every matrix stay the same."""
    stage = stage_of(plain, text, group=32, order=order, symmetric=symmetric)
    produce("quantize", stage, tmp_path / "out")
    packed = load_decoder(tmp_path / "out", "int4", "cpu")
    save(packed, tmp_path / "again")
    first, again = (dict(load_decoder(tmp_path / name, "fp32", "cpu").named_parameters()) for name in ("out", "again"))
    for name, parameter in first.items():
        if name.startswith("blocks.") and parameter.dim() == 2:
            found = packed.get_submodule(name.removesuffix(".weight")).dense(torch.float32)  # type: ignore[operator]
            assert torch.equal(found, parameter), name
            assert torch.equal(parameter, again[name]), name
    assert torch.equal(logits(tmp_path / "out", "int4"), logits(tmp_path / "out", "int4"))
    assert divergence(logits(tmp_path / "out", "int4"), logits(tmp_path / "out", "fp32")) < 0.01  # bf16's rounding


def test_transformers_reads_the_same_model(plain: Path, text: Path, tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors", reason="compressed-tensors is not installed")
    from transformers import AutoModelForCausalLM

    produce("quantize", stage_of(plain, text, bits=4, group=32), tmp_path / "out")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    ids = torch.randint(300, (2, 40), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        found = theirs(ids).logits
    assert torch.allclose(found, logits(tmp_path / "out"), atol=2e-3)


def test_a_walk_that_was_cut_off_goes_on(
    plain: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the third block is written; the run that follows gives the same bytes."""
    stage = stage_of(plain, text, bits=3, group=32)
    produce("quantize", stage, tmp_path / "whole")
    calls: list[int] = []
    rounding = quantise_module.gptq

    def failing(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 10:
            raise OSError(28, "No space left on device")
        return rounding(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(quantise_module, "gptq", failing)
        with pytest.raises(LuhuoError, match="space"):
            produce("quantize", stage, tmp_path / "cut")
    monkeypatch.setattr(quantise_module, "gptq", lambda *a, **o: calls.append(2) or rounding(*a, **o))
    produce("quantize", stage, tmp_path / "cut")
    assert calls.count(2) == 4  # the third block only
    for name in ("model.safetensors", "report.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_walk_sees_what_the_whole_model_sees(source: Path, text: Path, tmp_path: Path) -> None:
    """Second moments of every matrix, against hooks on the model as a whole."""
    model = load_decoder(source, "fp32", "cpu")
    ids = sequences(str(text), model.tokenizer, 8, 64)  # type: ignore[arg-type]
    expected = {}
    for name, module in model.named_modules():
        if name.startswith("blocks.") and hasattr(module, "product"):
            expected[name] = SecondMoment(module.weight.shape[1])  # type: ignore[union-attr]
            module.register_forward_pre_hook(lambda _, x, one=expected[name]: one.add(x[0].flatten(0, -2)))
    with torch.no_grad():
        model(ids)
    with Walk(source, ids, tmp_path) as walk:
        for step in walk:
            found = {name: SecondMoment(module.weight.shape[1]) for name, module in step.matrices.items()}
            step.collect({name: [one] for name, one in found.items()})
            for name, one in found.items():
                moment = expected.pop(f"{step.name}.{name}").moment
                assert torch.allclose(one.moment, moment, rtol=1e-4, atol=1e-5 * float(moment.abs().max()))
    assert not expected


def test_calibration_is_drawn_from_the_seed(tokenizer: Tokenizer, text: Path) -> None:
    first, again, other = (sequences(str(text), tokenizer, 8, 64, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (8, 64)


def test_conversations_are_rendered_for_calibration(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": line}, {"role": "assistant", "content": line[::-1]}]}
        for line in TEXT
    ]
    file = tmp_path / "talk.jsonl"
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    found = sequences(str(file), tokenizer, 4, 64)
    assert int((found == tokenizer.end_of_turn_id).sum()) > 4


def test_text_shorter_than_a_sequence_is_refused(plain: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("a few words", encoding="utf-8")
    with pytest.raises(LuhuoError, match="shorter than one sequence") as caught:
        produce("quantize", stage_of(plain, short), tmp_path / "out")
    assert "64 tokens" in str(caught.value)


def test_a_quantised_model_is_not_quantised_again(plain: Path, text: Path, tmp_path: Path) -> None:
    produce("quantize", stage_of(plain, text, group=32), tmp_path / "once")
    with pytest.raises(LuhuoError, match="quantised already"):
        produce("quantize", stage_of(tmp_path / "once", text, group=32), tmp_path / "twice")


def test_groups_that_do_not_divide_the_width_are_refused(plain: Path, text: Path, tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="do not divide") as caught:
        produce("quantize", stage_of(plain, text, group=64), tmp_path / "out")
    assert "group=32" in str(caught.value)


def test_gptq_without_text_is_refused(plain: Path) -> None:
    with pytest.raises(LuhuoError, match="calibration text"):
        QuantizeStage.parse({"model": str(plain)})


def test_too_little_memory_is_said_before_anything_is_done(
    plain: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luhuo.train.plan.machine.available_memory", lambda: 1e5)
    with pytest.raises(LuhuoError, match="memory"):
        produce("quantize", stage_of(plain, text, group=32), tmp_path / "out")
