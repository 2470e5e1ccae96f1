"""Checkpoints in MXFP4 and FP8 load as the plain weights they stand for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.kernels.block_floats import FP4, dequantise_fp8, dequantise_mxfp4
from luhuo.model.config import ModelConfig, MoEConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.model.load import load
from luhuo.model.save import save
from tests import test_model_mtp

GPT_OSS = ModelConfig(
    family="gpt_oss",
    vocab_size=61,
    hidden_size=32,
    layers=2,
    heads=2,
    kv_heads=1,
    head_dim=16,
    intermediate_size=64,
    qk_norm="none",
    qkv_bias=True,
    out_bias=True,
    attention_sinks=True,
    activation="quick_gelu",
    tie_embeddings=False,
    moe=MoEConfig(
        experts=3, active=2, intermediate_size=64, router_bias=True, expert_bias=True, limit=7.0, normalise=True
    ),
)


def random_bytes(*shape: int, low: int = 0, high: int = 256) -> Tensor:
    return torch.randint(low, high, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def random_ids() -> Tensor:
    return torch.randint(0, 61, (2, 15), generator=torch.Generator().manual_seed(2))


def change_config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_every_code_and_every_usual_scale_of_mxfp4_has_its_value() -> None:
    codes = torch.arange(16, dtype=torch.uint8)
    for scale in (100, 127, 131):
        blocks = (codes | (codes.flip(0) << 4)).view(1, 1, 16)
        found = dequantise_mxfp4(blocks, torch.tensor([[scale]], dtype=torch.uint8))
        expected = torch.tensor(FP4) * 2.0 ** (scale - 127)
        assert torch.equal(found.float().view(16, 2)[:, 0], expected)
        assert torch.equal(found.float().view(16, 2)[:, 1], expected.flip(0))


def test_mxfp4_is_read_as_the_reference_reads_it() -> None:
    reference = pytest.importorskip("transformers.integrations.mxfp4")
    blocks, scales = random_bytes(2, 6, 3, 16), random_bytes(2, 6, 3, low=118, high=134)
    expected = reference.convert_moe_packed_tensors(blocks, scales, dtype=torch.bfloat16)
    found = dequantise_mxfp4(blocks, scales)
    assert torch.equal(found.mT.contiguous(), expected.contiguous())


def test_a_model_with_experts_in_mxfp4_is_the_one_with_the_values_they_stand_for(tmp_path: Path) -> None:
    save(initialise(Decoder(GPT_OSS), 0), tmp_path / "plain")
    tensors = load_file(tmp_path / "plain" / "model.safetensors")
    packed = dict(tensors)
    for name in list(tensors):
        if name.endswith("_proj") and ".experts." in name:
            experts, columns, rows = tensors[name].shape
            blocks = random_bytes(experts, rows, columns // 32, 16)
            scales = random_bytes(experts, rows, columns // 32, low=120, high=126)
            tensors[name] = dequantise_mxfp4(blocks, scales).mT.float().contiguous()
            del packed[name]
            packed |= {name + "_blocks": blocks, name + "_scales": scales}
    save_file(tensors, tmp_path / "plain" / "model.safetensors", {"format": "pt"})
    expected = load(tmp_path / "plain", dtype="fp32")
    save_file(packed, tmp_path / "plain" / "model.safetensors", {"format": "pt"})
    change_config(tmp_path / "plain", quantization_config={"quant_method": "mxfp4"})
    found = load(tmp_path / "plain", dtype="fp32")
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), expected.parameters(), strict=True))
    assert found(random_ids()).isfinite().all()
    save(found, tmp_path / "again")
    assert "quantization_config" not in json.loads((tmp_path / "again" / "config.json").read_text())


def quantised(weight: Tensor, tile: int) -> tuple[Tensor, Tensor]:
    """FP8 and the scales of square tiles, by the definition."""
    rows, columns = (-(-size // tile) for size in weight.shape)
    scales = torch.empty(rows, columns)
    result = torch.empty(weight.shape, dtype=torch.float8_e4m3fn)
    for i in range(rows):
        for j in range(columns):
            part = weight[i * tile : (i + 1) * tile, j * tile : (j + 1) * tile]
            scales[i, j] = part.abs().max().clamp(min=1e-6) / 448
            result[i * tile : (i + 1) * tile, j * tile : (j + 1) * tile] = (part / scales[i, j]).to(result.dtype)
    return result, scales


def test_fp8_tiles_give_back_the_weights_within_a_sixteenth() -> None:
    weight = torch.randn(37, 50, generator=torch.Generator().manual_seed(0))
    small, scales = quantised(weight, 16)
    found = dequantise_fp8(small, scales, (16, 16))
    largest = scales.repeat_interleave(16, 0).repeat_interleave(16, 1)[:37, :50] * 448
    assert ((found - weight).abs() <= weight.abs() / 16 + largest / 2**10).all()


def fp8_model(folder: Path) -> None:
    model = test_model_mtp.random_model()
    save(model, folder)
    tensors: dict[str, Tensor] = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if tensor.ndim == 2 and "_proj" in name:
            tensors[name], tensors[name + "_scale_inv"] = quantised(tensor, 16)
        else:
            tensors[name] = tensor
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    change_config(folder, quantization_config={"quant_method": "fp8", "weight_block_size": [16, 16], "fmt": "e4m3"})


def test_a_model_in_fp8_is_near_the_one_it_was_made_from(tmp_path: Path) -> None:
    fp8_model(tmp_path)
    found, exact = load(tmp_path, dtype="fp32"), test_model_mtp.random_model()
    assert found.config.mtp_layers == exact.config.mtp_layers
    for (name, a), b in zip(found.named_parameters(), exact.parameters(), strict=True):
        assert (a - b).norm() < 0.04 * b.norm(), name


def test_scales_that_do_not_fit_are_named(tmp_path: Path) -> None:
    fp8_model(tmp_path)
    change_config(tmp_path, quantization_config={"quant_method": "fp8"})
    with pytest.raises(LuhuoError, match=r"layers\.0\.mlp\.down_proj\.weight") as caught:
        load(tmp_path)
    assert "scales" in str(caught.value) or "缩放" in str(caught.value)


def test_another_way_of_quantising_is_refused_by_name(tmp_path: Path) -> None:
    save(initialise(Decoder(GPT_OSS), 0), tmp_path)
    change_config(tmp_path, quantization_config={"quant_method": "bitsandbytes", "bits": 4})
    with pytest.raises(LuhuoError, match="bitsandbytes"):
        load(tmp_path)
