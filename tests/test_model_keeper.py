"""A quantised directory is loaded as it was published: each matrix in its own form, with equal logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from luhuo.core.errors import LuhuoError
from luhuo.kernels.eight_bit import eight_bit
from luhuo.kernels.packed import pack
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.eight_bit import EightBitLinear
from luhuo.model.gguf import export_gguf
from luhuo.model.initialise import initialise
from luhuo.model.layers import Linear
from luhuo.model.load import load_decoder
from luhuo.model.quantised import QuantisedLinear, round_matrix
from luhuo.model.save import save
from luhuo.model.sparse import SparseLinear

CONFIG = ModelConfig(
    family="llama", vocab_size=96, hidden_size=64, layers=2, heads=4, kv_heads=2, head_dim=16, intermediate_size=96,
    qk_norm="none", tie_embeddings=False,
)  # fmt: skip


def small() -> Decoder:
    model = initialise(Decoder(CONFIG), 0).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.data = torch.randn(parameter.shape, generator=generator) * parameter.shape[1] ** -0.5
    return model


def replaced(model: Decoder, make: Any) -> Decoder:
    """The model with what `make(name, weight)` gives for the blocks' matrices, unless that is None."""
    for name, module in list(model.named_modules()):
        if type(module) is Linear and name.startswith("blocks."):
            found = make(name, module.weight.detach())
            parent, _, child = name.rpartition(".")
            if found is not None:
                setattr(model.get_submodule(parent), child, found)
    return model


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    scale = weight.abs().amax(1, keepdim=True) / 127
    return (weight / scale).round(), scale


def module_of(model: Decoder, name: str) -> nn.Module:
    return model.get_submodule(name)


DOWN = "model.layers.1.mlp.down_proj.weight"
NAMES = [
    f"blocks.{i}.{name}" for i in range(2) for name in ("attention.qkv", "attention.out", "mlp.gate_up", "mlp.down")
]


@pytest.mark.parametrize("kind", [{}, {"input_scale": torch.tensor([0.03])}, {"threshold": 2.0}])
def test_matrices_with_rounded_inputs_keep_integers_scales_and_threshold(tmp_path: Path, kind: dict[str, Any]) -> None:
    model = replaced(small(), lambda _, weight: EightBitLinear(eight_bit(*rounded(weight), **kind)))
    save(model, tmp_path)
    found = load_decoder(tmp_path, device="cpu")
    for name in NAMES:
        ours, theirs = module_of(model, name), module_of(found, name)
        assert isinstance(ours, EightBitLinear) and isinstance(theirs, EightBitLinear)
        assert torch.equal(ours.weight, theirs.weight) and torch.equal(ours.sums, theirs.sums)
        torch.testing.assert_close(ours.scale, theirs.scale, rtol=1e-6, atol=0)
        assert ours.threshold == theirs.threshold
        assert (ours.input_scale is None) == (theirs.input_scale is None)
    plain = load_decoder(tmp_path, dtype="int8", device="cpu")
    assert all(isinstance(module_of(plain, name), QuantisedLinear) for name in NAMES)


def test_fp8_stays_fp8(tmp_path: Path) -> None:
    def make(_: str, weight: Tensor) -> QuantisedLinear:
        scale = weight.abs().amax(1, keepdim=True) / 448
        return QuantisedLinear(pack((weight / scale).to(torch.float8_e4m3fn), scale, bits=8, group=weight.shape[1]))

    model = replaced(small(), make)
    save(model, tmp_path)
    for dtype in ("auto", "int8"):
        found = load_decoder(tmp_path, dtype=dtype, device="cpu")
        for name in NAMES:
            ours, theirs = module_of(model, name), module_of(found, name)
            assert isinstance(ours, QuantisedLinear) and isinstance(theirs, QuantisedLinear) and theirs.floats
            assert torch.equal(ours.dense(torch.float32), theirs.dense(torch.float32))


def test_each_matrix_keeps_its_own_bits_and_floats_stay_floats(tmp_path: Path) -> None:
    def make(name: str, weight: Tensor) -> QuantisedLinear | None:
        bits = {"attention.qkv": 8, "attention.out": 4, "mlp.down": None}.get(name.split(".", 2)[2], 4)
        return None if bits is None else QuantisedLinear(round_matrix(weight, bits, 32).packed())  # type: ignore[arg-type]

    model = replaced(small(), make)
    save(model, tmp_path)
    found = load_decoder(tmp_path, device="cpu")
    for name in NAMES:
        ours, theirs = module_of(model, name), module_of(found, name)
        assert type(ours) is type(theirs)
        if isinstance(ours, QuantisedLinear) and isinstance(theirs, QuantisedLinear):
            assert ours.bits == theirs.bits
            assert torch.equal(ours.dense(torch.float32), theirs.dense(torch.float32))


def test_fp8_in_tiles_is_kept_and_published_as_floats(tmp_path: Path) -> None:
    save(small(), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for name in [name for name in tensors if "_proj.weight" in name]:
        tiles = tensors[name].unflatten(0, (-1, 16)).unflatten(2, (-1, 16))
        scale = tiles.abs().amax((1, 3)) / 448
        wide = scale.repeat_interleave(16, 0).repeat_interleave(16, 1)
        tensors[name] = (tensors[name] / wide).to(torch.float8_e4m3fn)
        tensors[name + "_scale_inv"] = scale
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    settings = {"quant_method": "fp8", "weight_block_size": [16, 16]}
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    found, wide = load_decoder(tmp_path, device="cpu"), load_decoder(tmp_path, dtype="fp32", device="cpu")
    save(found, tmp_path / "again")
    again = load_decoder(tmp_path / "again", dtype="fp32", device="cpu")
    for name in NAMES:
        module, exact = module_of(found, name), wide.get_parameter(f"{name}.weight")
        assert isinstance(module, QuantisedLinear) and module.floats and module.group == 16
        assert torch.equal(module.dense(torch.float32), exact)
        torch.testing.assert_close(again.get_parameter(f"{name}.weight"), exact, rtol=2**-8, atol=0)


def pruned(_: str, weight: Tensor) -> None:
    fours = weight.view(len(weight), -1, 4)
    fours.scatter_(-1, fours.abs().argsort(-1)[..., :2], 0)


def test_a_model_pruned_two_of_four_is_kept_so_where_that_is_asked_for(tmp_path: Path) -> None:
    model = replaced(small().to(torch.bfloat16), pruned)
    save(model, tmp_path / "pruned")
    found = load_decoder(tmp_path / "pruned", dtype="sparse", device="cpu")
    dense = load_decoder(tmp_path / "pruned", device="cpu")
    assert all(isinstance(module_of(found, name), SparseLinear) for name in NAMES)
    assert all(type(module_of(dense, name)) is Linear for name in NAMES)
    ids = torch.randint(96, (2, 20), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        torch.testing.assert_close(found(ids).float(), dense(ids).float(), atol=0.1, rtol=0.02)
    export_gguf(dense, tmp_path / "pruned.gguf", "bf16", note=lambda _: None)
    other = load_decoder(tmp_path / "pruned.gguf", dtype="sparse", device="cpu")
    assert isinstance(module_of(other, NAMES[3]), SparseLinear)
    save(found, tmp_path / "again")
    published = [load_file(tmp_path / folder / "model.safetensors")[DOWN] for folder in ("again", "pruned")]
    assert torch.equal(*published)
    save(small(), tmp_path / "dense")
    with pytest.raises(LuhuoError, match="2:4"):
        load_decoder(tmp_path / "dense", dtype="sparse", device="cpu")
