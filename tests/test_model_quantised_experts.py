"""Experts in 8 and 4 bits: their products, loading, the directories of hubs, and GGUF."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from luhuo.kernels import low_bit
from luhuo.model.config import ModelConfig, MoEConfig
from luhuo.model.decoder import Decoder
from luhuo.model.gguf import export_gguf
from luhuo.model.gguf_source import rounded_rows
from luhuo.model.initialise import initialise
from luhuo.model.load import load_decoder
from luhuo.model.moe import Experts, grouped_linear
from luhuo.model.quantised import quantise_model, round_like
from luhuo.model.quantised_experts import QuantisedMatrices
from luhuo.model.save import save
from luhuo.train.expert_parallel import divide_experts
from tests.test_model_quantised import awq, gptq

EXPERTS = 5
MOE = MoEConfig(experts=EXPERTS, active=2, intermediate_size=64)
SHAPE: dict[str, Any] = {
    "family": "qwen3_moe",
    "vocab_size": 96,
    "hidden_size": 64,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 16,
    "intermediate_size": 96,
    "tie_embeddings": False,
    "moe": MOE,
}
STACKS = tuple(f"blocks.{block}.mlp.experts.{kind}" for block in range(2) for kind in ("gate_up", "down"))


def mixture(**changes: Any) -> Decoder:
    model = initialise(Decoder(ModelConfig(**SHAPE | changes)), 0).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5
    return model


def logits(model: Decoder) -> Tensor:
    ids = torch.randint(96, (2, 20), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        return model(ids).float()


def stack_of(model: Decoder, name: str) -> QuantisedMatrices:
    found = model.get_submodule(name)
    assert isinstance(found, QuantisedMatrices)
    return found


@pytest.fixture
def plain_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of the dense matrices in fp32: compiled ones round their inputs to bf16, and a router may tip."""
    monkeypatch.setattr(low_bit, "library", lambda: None)


@pytest.mark.parametrize("scheme", ["int8", "int4"])
@pytest.mark.parametrize("inner", [64, 40])
@pytest.mark.parametrize("bias", [False, True])
def test_experts_in_few_bits_are_those_of_the_numbers_they_hold(
    scheme: str, inner: int, bias: bool, plain_products: None
) -> None:
    moe = MOE.model_copy(update={"intermediate_size": inner, "expert_bias": bias, "shared_size": 16})
    whole = mixture(moe=moe)
    few = copy.deepcopy(whole)
    quantise_model(few, scheme)
    assert all(stack_of(few, name).bits == (8 if scheme == "int8" else 4) for name in STACKS)
    before = logits(whole)
    round_like(whole, few)
    torch.testing.assert_close(logits(few), logits(whole), atol=1e-4, rtol=1e-4)
    moved = float((logits(few) - before).abs().mean() / before.abs().mean())
    assert moved < (0.2 if scheme == "int8" else 0.7)  # of random experts another one is chosen now and then


def test_compiled_products_of_experts_are_near_the_plain_ones() -> None:
    few = mixture()
    quantise_model(few, "int4")
    stack = stack_of(few, STACKS[0])
    counts = torch.tensor([3, 0, 7, 1, 20])
    x = torch.randn(31, 64, generator=torch.Generator().manual_seed(3))
    expected = grouped_linear(x, stack.dense(torch.float32), counts)
    torch.testing.assert_close(stack.grouped(x, counts), expected, atol=0.03, rtol=0)


def test_slopes_go_through_experts_in_few_bits() -> None:
    few = mixture()
    quantise_model(few, "int8")
    stack = stack_of(few, STACKS[1])
    counts = torch.tensor([2, 4, 0, 1, 6])
    slope = torch.randn(13, 64, generator=torch.Generator().manual_seed(4))
    found, expected = (torch.randn(13, 64, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    stack.grouped(found.requires_grad_(True), counts).backward(slope)
    grouped_linear(expected.requires_grad_(True), stack.dense(torch.float32), counts).backward(slope)
    torch.testing.assert_close(found.grad, expected.grad)


def test_experts_in_few_bits_are_not_divided_among_processes() -> None:
    few = mixture()
    quantise_model(few, "int8")
    with pytest.raises(LuhuoError, match="few bits are not divided"):
        divide_experts(few, SimpleNamespace(sizes={"ep": 2, "tp": 1}))  # type: ignore[arg-type]


def test_the_engine_writes_with_experts_in_few_bits(plain_products: None) -> None:
    few = mixture()
    quantise_model(few, "int4")
    whole = mixture()
    round_like(whole, few)
    prompts = [[5, 6, 7], [9, 8, 7, 6, 5, 4]]
    told = [
        [out.token_ids for out in Engine(model).generate(prompts, Sampling(temperature=0, max_tokens=8))]
        for model in (few, whole)
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_a_saved_model_has_each_experts_matrix_and_comes_back_with_the_same_bits(tmp_path: Path, scheme: str) -> None:
    few = mixture()
    quantise_model(few, scheme)
    save(few, tmp_path)
    names = load_file(tmp_path / "model.safetensors").keys()
    for projection in ("gate_proj", "up_proj", "down_proj"):
        assert f"model.layers.1.mlp.experts.4.{projection}.weight_packed" in names
    ignored = json.loads((tmp_path / "config.json").read_text())["quantization_config"]["ignore"]
    assert "model.layers.0.mlp.gate" in ignored and not any("experts" in name for name in ignored)
    again, dense = (load_decoder(tmp_path, dtype=dtype, device="cpu") for dtype in ("auto", "fp32"))
    for name in STACKS:
        assert torch.equal(stack_of(again, name).packed, stack_of(few, name).packed)
        assert torch.equal(dense.get_parameter(name), stack_of(few, name).dense(torch.float32))


def test_transformers_opens_experts_in_few_bits(tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors", reason="an optional peer")
    transformers = pytest.importorskip("transformers")
    few = mixture()
    quantise_model(few, "int4")
    save(few, tmp_path)
    config = transformers.CompressedTensorsConfig(dequantize=True)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=config, dtype="float32")
    ours = stack_of(few, STACKS[3]).dense(torch.float32).bfloat16().float()  # they multiply in the scale's format
    assert torch.equal(theirs.model.layers[1].mlp.experts.down_proj, ours)


@pytest.mark.parametrize(("method", "moved"), [("gptq", False), ("gptq", True), ("awq", False)])
def test_mixtures_in_the_layouts_of_hubs_are_read_as_they_are_defined(
    tmp_path: Path, method: str, moved: bool
) -> None:
    save(mixture(), tmp_path)
    tensors, expected = load_file(tmp_path / "model.safetensors"), {}
    for name in [name for name in tensors if "_proj.weight" in name]:
        generator = torch.Generator().manual_seed(len(expected))
        rows, columns = tensors.pop(name).shape
        made = awq(rows, columns, generator) if method == "awq" else None
        parts, expected[name] = made or gptq(rows, columns, generator, moved=moved, bits=4)
        tensors |= {name.removesuffix("weight") + key: part.contiguous() for key, part in parts.items()}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    settings = {"quant_method": method, "bits": 4, "group_size": 32, "desc_act": moved, "version": "gemm"}
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    found = load_decoder(tmp_path, device="cpu")
    dense = load_decoder(tmp_path, dtype="fp32", device="cpu")
    each = [f"model.layers.1.mlp.experts.{expert}." for expert in range(EXPERTS)]
    wanted = {
        STACKS[2]: [torch.cat([expected[f"{one}{part}_proj.weight"] for part in ("gate", "up")]) for one in each],
        STACKS[3]: [expected[f"{one}down_proj.weight"] for one in each],
    }
    for name, matrices in wanted.items():
        assert torch.equal(dense.get_parameter(name), torch.stack(matrices))
        if moved:  # experts whose columns were moved are opened as floats
            assert isinstance(found.get_submodule("blocks.1.mlp.experts"), Experts)
            assert torch.equal(found.get_parameter(name).float(), torch.stack(matrices).to(found.dtype).float())
        else:
            held = stack_of(found, name).dense(torch.float32)
            torch.testing.assert_close(held, torch.stack(matrices), atol=1e-6, rtol=1e-5)


def test_experts_in_fp8_stay_in_fp8(tmp_path: Path) -> None:
    save(mixture(), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for name in [name for name in tensors if "_proj.weight" in name]:
        scale = tensors[name].abs().amax(1, keepdim=True) / 448
        tensors[name] = (tensors[name] / scale).to(torch.float8_e4m3fn)
        tensors[f"{name}_scale"] = scale
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    weights = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel", "dynamic": False}
    groups = {"group_0": {"targets": ["Linear"], "weights": weights, "format": "naive-quantized"}}
    settings = {"quant_method": "compressed-tensors", "format": "naive-quantized", "config_groups": groups}
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": settings | {"ignore": []}}))
    found, dense = (load_decoder(tmp_path, dtype=dtype, device="cpu") for dtype in ("auto", "fp32"))
    for name in STACKS:
        assert stack_of(found, name).floats
        assert torch.equal(stack_of(found, name).dense(torch.float32), dense.get_parameter(name))
    save(found, tmp_path / "again")
    assert torch.equal(
        load_decoder(tmp_path / "again", dtype="fp32", device="cpu").get_parameter(STACKS[0]),
        dense.get_parameter(STACKS[0]),
    )


@pytest.mark.parametrize(("kind", "dtype"), [("q8_0_plain", "int8"), ("q4_0", "int4"), ("q4_1", "int4")])
def test_gguf_blocks_of_experts_keep_their_numbers_both_ways(tmp_path: Path, kind: str, dtype: str) -> None:
    export_gguf(mixture(), tmp_path / "model.gguf", kind, note=lambda _: None)
    whole = load_decoder(tmp_path / "model.gguf", dtype="fp32", device="cpu")
    found = load_decoder(tmp_path / "model.gguf", dtype=dtype, device="cpu")
    for name in STACKS:
        torch.testing.assert_close(stack_of(found, name).dense(torch.float32), whole.get_parameter(name).detach())
    if kind == "q4_1":  # its lows are on no grid that a directory has
        return
    save(found, tmp_path / "few")
    dense = load_decoder(tmp_path / "few", dtype="fp32", device="cpu")
    with rounded_rows(tmp_path / "few", dense) as rounded:
        export_gguf(dense, tmp_path / "again.gguf", "kept", note=lambda _: None, rounded=rounded)
    again = load_decoder(tmp_path / "again.gguf", dtype="fp32", device="cpu")
    for name in STACKS:
        assert torch.equal(again.get_parameter(name), dense.get_parameter(name))
