"""Decoders in 8 and 4 bits: loading, and the layouts in which they are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.inference import decode_step
from luhuo.inference.decode_step import DecodeStep
from luhuo.kernels import low_bit
from luhuo.model.decoder import Decoder
from luhuo.model.gguf import export_gguf
from luhuo.model.load import load_decoder
from luhuo.model.quantised import QuantisedEmbedding, QuantisedLinear, quantise_model
from luhuo.model.save import save
from tests.compiled_cases import LLAMA, SMALL, small


def logits(model: Decoder, count: int = 20) -> Tensor:
    ids = torch.randint(SMALL["vocab_size"], (2, count), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        return model(ids).float()


def matrix_of(model: Decoder, name: str) -> Tensor:
    module = model.get_submodule(name)
    assert isinstance(module, QuantisedLinear)
    return module.dense(torch.float32)


@pytest.mark.parametrize(("scheme", "bound"), [("int8", 0.05), ("int4", 0.4)])
def test_a_directory_loads_in_few_bits_and_says_nearly_the_same(tmp_path: Path, scheme: str, bound: float) -> None:
    model = small(**LLAMA)
    save(model, tmp_path)
    found = load_decoder(tmp_path, dtype=scheme, device="cpu")
    kinds = [module.bits for module in found.modules() if isinstance(module, QuantisedLinear)]
    assert kinds.count(8 if scheme == "int8" else 4) >= 8 and isinstance(found.embedding, QuantisedEmbedding)
    assert found.embedding.bits == 8 and found.device.type == "cpu"
    expected = logits(model)
    assert (logits(found) - expected).abs().mean() < bound * expected.abs().mean()


def test_without_compiled_kernels_the_same_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(small(), tmp_path)
    model = load_decoder(tmp_path, dtype="int4", device="cpu")
    expected = logits(model, 3)
    for module in (low_bit, decode_step):
        monkeypatch.setattr(module, "library", lambda: None)
    assert DecodeStep.of(model) is None
    torch.testing.assert_close(logits(model, 3), expected, atol=0.02 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize(("kind", "dtype"), [("q8_0", "int8"), ("q4_0", "int4"), ("q4_1", "int4"), ("q4_1", "int8")])
def test_gguf_blocks_keep_their_numbers(tmp_path: Path, kind: str, dtype: str) -> None:
    export_gguf(small(**LLAMA), tmp_path / "model.gguf", "q8_0_plain" if kind == "q8_0" else kind, note=lambda _: None)
    whole = load_decoder(tmp_path / "model.gguf", dtype="fp32", device="cpu")
    found = load_decoder(tmp_path / "model.gguf", dtype=dtype, device="cpu")
    for name in ("blocks.1.attention.qkv", "blocks.0.attention.out", "blocks.1.mlp.gate_up", "blocks.0.mlp.down"):
        torch.testing.assert_close(
            matrix_of(found, name), whole.get_parameter(f"{name}.weight").detach(), atol=1e-6, rtol=1e-5
        )
    assert isinstance(found.embedding, QuantisedEmbedding)
    assert torch.equal(found.embedding.dense(torch.float32), whole.embedding)


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_a_saved_quantised_model_comes_back_with_the_same_numbers(tmp_path: Path, scheme: str) -> None:
    model = small(**LLAMA)
    quantise_model(model, scheme)
    save(model, tmp_path, shard_bytes=8_000)
    assert (tmp_path / "model.safetensors.index.json").is_file()
    found = load_decoder(tmp_path, device="cpu")
    for block in range(2):
        for name in ("attention.qkv", "attention.out", "mlp.gate_up", "mlp.down"):
            where = f"blocks.{block}.{name}"
            assert torch.equal(matrix_of(found, where), matrix_of(model, where))
    assert torch.equal(matrix_of(found, "blocks.0.mlp.down"), matrix_of(model, "blocks.0.mlp.down"))
    dense = load_decoder(tmp_path, dtype="fp32", device="cpu")
    assert torch.equal(dense.get_parameter("blocks.1.mlp.down.weight"), matrix_of(model, "blocks.1.mlp.down"))


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_compressed_tensors_unpacks_what_we_write(tmp_path: Path, scheme: str) -> None:
    pytest.importorskip("compressed_tensors", reason="an optional peer; a plain unpacking is tested below")
    transformers = pytest.importorskip("transformers")
    model = small(**LLAMA)
    quantise_model(model, scheme)
    save(model, tmp_path)
    config = transformers.CompressedTensorsConfig(dequantize=True)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=config, dtype="float32")
    ours = matrix_of(model, "blocks.1.mlp.down").bfloat16().float()  # they multiply in the scale's format
    assert torch.equal(theirs.model.layers[1].mlp.down_proj.weight, ours)
    ids = torch.randint(96, (2, 20), generator=torch.Generator().manual_seed(2))
    found, expected = theirs(ids).logits, logits(model)
    assert (found - expected).abs().max() < 0.03 * expected.abs().max()


def words(q: Tensor, bits: int = 4) -> Tensor:
    """Integers (rows, columns) in words along the columns, written out one by one."""
    step = 32 // bits
    out = torch.zeros(q.shape[0], q.shape[1] // step, dtype=torch.int64)
    for column in range(q.shape[1]):
        out[:, column // step] |= q[:, column].long() << (bits * (column % step))
    return torch.where(out >= 2**31, out - 2**32, out).int()


def published(folder: Path, make: Any, settings: dict[str, Any]) -> dict[str, Tensor]:
    """A Llama in `folder` whose matrices of blocks `make` replaced by tensors; returns what each then stands for."""
    save(small(**LLAMA), folder)
    tensors, expected = load_file(folder / "model.safetensors"), {}
    for name in [name for name in tensors if "_proj.weight" in name]:
        generator = torch.Generator().manual_seed(len(expected))
        parts, expected[name] = make(*tensors.pop(name).shape, generator)
        tensors |= {name.removesuffix("weight") + key: part.contiguous() for key, part in parts.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    return expected


def gptq(rows: int, columns: int, generator: torch.Generator, *, moved: bool, bits: int) -> tuple[dict, Tensor]:
    """A matrix as GPTQ publishes it, and what it stands for, from the definition."""
    groups = columns // 32
    q = torch.randint(2**bits, (columns, rows), generator=generator)
    zero = torch.randint(1, 2**bits, (groups, rows), generator=generator)
    scale = (0.01 * torch.rand(groups, rows, generator=generator) + 0.001).half()
    index = torch.arange(columns) // 32
    index = index[torch.randperm(columns, generator=torch.Generator().manual_seed(columns))] if moved else index
    whole = (q - zero[index]).float() * scale.float()[index]
    parts = {"qweight": words(q.t(), bits).t(), "qzeros": words(zero - 1, bits), "scales": scale, "g_idx": index.int()}
    return parts, whole.t()


def awq(rows: int, columns: int, generator: torch.Generator) -> tuple[dict, Tensor]:
    """The same for AWQ: eight rows to a word, in the order 0, 2, 4, 6, 1, 3, 5, 7."""
    q = torch.randint(16, (columns, rows), generator=generator)
    zero = torch.randint(16, (columns // 32, rows), generator=generator)
    scale = (0.01 * torch.rand(columns // 32, rows, generator=generator) + 0.001).half()
    index = torch.arange(columns) // 32
    order = torch.arange(rows).view(-1, 8)[:, [0, 2, 4, 6, 1, 3, 5, 7]].flatten()
    parts = {"qweight": words(q[:, order]), "qzeros": words(zero[:, order]), "scales": scale}
    return parts, ((q - zero[index]).float() * scale.float()[index]).t()


@pytest.mark.parametrize(
    ("method", "bits", "moved"), [("gptq", 4, False), ("gptq", 4, True), ("gptq", 8, True), ("awq", 4, False)]
)
def test_layouts_of_hubs_are_read_as_they_are_defined(tmp_path: Path, method: str, bits: int, moved: bool) -> None:
    def make(rows: int, columns: int, generator: torch.Generator) -> tuple[dict, Tensor]:
        return (
            awq(rows, columns, generator)
            if method == "awq"
            else gptq(rows, columns, generator, moved=moved, bits=bits)
        )

    settings = {"quant_method": method, "bits": bits, "group_size": 32, "desc_act": moved, "version": "gemm"}
    expected = published(tmp_path, make, settings)
    found = load_decoder(tmp_path, device="cpu")
    dense = load_decoder(tmp_path, dtype="fp32", device="cpu")
    layer = "model.layers.1."
    qkv = torch.cat([expected[f"{layer}self_attn.{part}_proj.weight"] for part in "qkv"])
    for name, whole in (("attention.qkv", qkv), ("mlp.down", expected[f"{layer}mlp.down_proj.weight"])):
        torch.testing.assert_close(matrix_of(found, f"blocks.1.{name}"), whole, atol=1e-6, rtol=1e-5)
        assert torch.equal(dense.get_parameter(f"blocks.1.{name}.weight"), whole)
    assert found.get_submodule("blocks.1.mlp.down").bits == bits
    assert torch.isfinite(logits(found)).all()


def test_plain_int8_of_compressed_tensors_is_read(tmp_path: Path) -> None:
    def make(rows: int, columns: int, generator: torch.Generator) -> tuple[dict, Tensor]:
        q = torch.randint(-128, 128, (rows, columns), generator=generator)
        scale = (0.001 * torch.rand(rows, 1, generator=generator) + 0.0001).bfloat16()
        return {"weight": q.to(torch.int8), "weight_scale": scale}, q.float() * scale.float()

    expected = published(tmp_path, make, {"quant_method": "compressed-tensors", "format": "int-quantized"})
    found = load_decoder(tmp_path, device="cpu")
    whole = expected["model.layers.0.mlp.down_proj.weight"]
    assert torch.equal(matrix_of(found, "blocks.0.mlp.down"), whole)


@pytest.mark.parametrize(
    ("settings", "words_of"),
    [
        ({"quant_method": "awq", "version": "gemv"}, "gemm"),
        ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}, "pack-quantized"),
        ({"quant_method": "bitsandbytes"}, "gptq"),
    ],
)
def test_other_layouts_are_refused_with_those_that_are_read(
    tmp_path: Path, settings: dict[str, Any], words_of: str
) -> None:
    save(small(**LLAMA), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    with pytest.raises(LuhuoError, match=words_of):
        load_decoder(tmp_path, device="cpu")


def test_a_missing_or_misshapen_part_is_named(tmp_path: Path) -> None:
    settings = {"quant_method": "gptq", "bits": 4, "group_size": 32}
    published(tmp_path, lambda r, c, g: gptq(r, c, g, moved=False, bits=4), settings)
    tensors = load_file(tmp_path / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.qzeros"
    save_file(tensors | {name: tensors[name][:, 1:].contiguous()}, tmp_path / "model.safetensors")
    with pytest.raises(LuhuoError, match=r"down_proj\.qzeros"):
        load_decoder(tmp_path, device="cpu")
    del tensors[name]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(LuhuoError, match=r"down_proj\.qzeros"):
        load_decoder(tmp_path, device="cpu")


def test_lows_on_no_grid_are_not_written(tmp_path: Path) -> None:
    export_gguf(small(**LLAMA), tmp_path / "model.gguf", "q4_1", note=lambda _: None)
    model = load_decoder(tmp_path / "model.gguf", dtype="int4", device="cpu")
    with pytest.raises(LuhuoError, match="q_proj"):
        save(model, tmp_path / "out")
