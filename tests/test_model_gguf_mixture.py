"""Which matrices of a Q8_0 file stay in F16, and what that is worth against rounded activations."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

import gguf
import pytest
import torch

from luhuo.files.gguf import GGUF
from luhuo.files.gguf_types import TensorType
from luhuo.kernels.gguf_dequantise import dequantise
from luhuo.kernels.gguf_quantise import quantise
from luhuo.model.decoder import Decoder
from luhuo.model.gguf import export_gguf, load_gguf
from luhuo.model.gguf_mixture import SHARE, kept_in_half
from luhuo.model.layers import Linear
from tests.test_model_gguf import logits, model_of, silent, small

Shapes = dict[str, tuple[int, ...]]


def llama(layers: int, hidden: int, inner: int, kv: int, vocabulary: int) -> Shapes:
    """The matrices of a Llama with one embedding for both ends."""
    shapes: Shapes = {"token_embd.weight": (vocabulary, hidden)}
    for layer in range(layers):
        sizes = {
            "attn_q": (hidden, hidden), "attn_k": (kv, hidden), "attn_v": (kv, hidden),
            "attn_output": (hidden, hidden), "ffn_gate": (inner, hidden), "ffn_up": (inner, hidden),
            "ffn_down": (hidden, inner),
        }  # fmt: skip
        shapes |= {f"blk.{layer}.{name}.weight": size for name, size in sizes.items()}
    return shapes


SMOLLM2 = llama(30, 576, 1536, 192, 49152)


def grown(shapes: Shapes, kept: frozenset[str]) -> float:
    """Bytes that the mixture adds to a plain file's matrices, as a share of them."""
    plain = sum(prod(shape) * 34 / 32 for shape in shapes.values())
    return sum(prod(shapes[name]) * (2 - 34 / 32) for name in kept) / plain


def test_attention_of_every_layer_and_the_mlps_of_the_outermost_two_are_kept_of_smollm2() -> None:
    kept = kept_in_half(SMOLLM2)
    expected = {f"blk.{layer}.attn_{part}.weight" for layer in range(30) for part in "qkv"}
    expected |= {f"blk.{layer}.ffn_{part}.weight" for layer in (0, 29) for part in ("gate", "up", "down")}
    assert kept == expected
    assert 0.14 < grown(SMOLLM2, kept) <= SHARE


@pytest.mark.parametrize(
    "shapes",
    [
        llama(32, 4096, 11008, 4096, 32000),  # Llama 2 7B: keys and values as large as queries
        llama(32, 4096, 14336, 1024, 128256),  # Llama 3 8B
        llama(4, 192, 512, 96, 4096),
        llama(1, 64, 96, 32, 96),
        {"token_embd.weight": (96, 64)},
        {},
    ],
    ids=["llama-2-7b", "llama-3-8b", "quickstart", "one layer", "no layer", "nothing"],
)
def test_no_file_grows_beyond_the_share(shapes: Shapes) -> None:
    kept = kept_in_half(shapes)
    assert kept <= shapes.keys()
    assert not kept or grown(shapes, kept) <= SHARE


def test_a_layer_is_kept_whole_or_not_and_outer_layers_come_first() -> None:
    kept = kept_in_half(llama(32, 4096, 11008, 4096, 32000))
    layers = {int(name.split(".")[1]) for name in kept if "attn" in name}
    assert 2 <= len(layers) < 32
    inner = set(range(32)) - layers
    assert inner == set(range(min(inner), max(inner) + 1))
    for layer in layers:
        assert {f"blk.{layer}.attn_{part}.weight" for part in "qkv"} <= kept


def test_fused_and_latent_projections_count_as_attention_and_experts_stay_in_8_bits() -> None:
    names = ("attn_qkv", "attn_q_a", "attn_kv_a_mqa", "attn_k_b", "attn_output", "ffn_down_exps", "ffn_gate_inp")
    shapes: Shapes = {f"blk.0.{name}.weight": (32, 64) for name in names}
    kept = kept_in_half(shapes | {"token_embd.weight": (4096, 64)})
    assert kept == {f"blk.0.{name}.weight" for name in names[:3]}


@torch.no_grad()
def wide() -> Decoder:
    """Random matrices, and an embedding large enough for the mixture to keep all of the rest that it ever keeps."""
    model, random = small(vocab_size=4096, tie_embeddings=True), torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.normal_(0, parameter.shape[1] ** -0.5, generator=random)
    return model


@pytest.fixture
def files(tmp_path: Path) -> Iterator[dict[str, Path]]:
    paths = {kind: tmp_path / f"{kind}.gguf" for kind in ("q8_0", "q8_0_plain")}
    for kind, path in paths.items():
        export_gguf(wide(), path, kind, note=silent)
    yield paths


def test_the_file_says_q8_0_and_holds_what_the_rule_says(files: dict[str, Path]) -> None:
    for kind, path in files.items():
        file = GGUF(path)
        assert file.metadata["general.file_type"] == 7
        found = {name: info.kind for name, info in file.tensors.items() if info.kind != TensorType.F32}
        shapes = {name: file.tensors[name].shape for name in found}
        kept = kept_in_half(shapes) if kind == "q8_0" else frozenset()
        assert found == {name: TensorType.F16 if name in kept else TensorType.Q8_0 for name in found}
    assert any(tensor.tensor_type.name == "F16" for tensor in gguf.GGUFReader(files["q8_0"]).tensors)
    assert files["q8_0_plain"].stat().st_size < files["q8_0"].stat().st_size


def test_matrices_outside_the_mixture_have_the_bytes_of_the_plain_file(files: dict[str, Path]) -> None:
    mixed, plain = GGUF(files["q8_0"]), GGUF(files["q8_0_plain"])
    for name, info in mixed.tensors.items():
        if info.kind == TensorType.F16:
            assert torch.equal(
                dequantise(mixed.data(name), info.kind, info.shape).half(), weights(wide(), name).half()
            ), name
        else:
            assert bytes(mixed.data(name)) == bytes(plain.data(name)), name


def weights(model: Decoder, name: str) -> torch.Tensor:
    """A matrix as an F32 file would hold it."""
    from luhuo.model.gguf import find_layout
    from luhuo.model.gguf_links import gguf_links

    parameters = dict(model.named_parameters())
    for link in gguf_links(model.config, find_layout(model.config).how, parameters):
        if name in link.theirs:
            return link.split(parameters[link.ours].detach())[link.theirs.index(name)]
    raise AssertionError(name)


MATRICES = {
    "attention.qkv": "attn_q", "attention.out": "attn_output", "mlp.gate_up": "ffn_up", "mlp.down": "ffn_down",
}  # fmt: skip


def in_8_bits(x: torch.Tensor) -> torch.Tensor:
    return dequantise(torch.cat(list(quantise(x, TensorType.Q8_0))).numpy(), TensorType.Q8_0, tuple(x.shape))


@torch.no_grad()
def test_it_halves_the_damage_that_rounded_activations_do_behind_outliers(tmp_path: Path) -> None:
    """llama.cpp's arithmetic, written out here: what stands before a Q8_0 matrix is rounded in blocks of 32."""
    model = wide()
    for layer in range(model.config.layers):
        model.get_parameter(f"blocks.{layer}.attention_norm.weight")[7] = (
            30.0  # one feature, many times larger than its neighbours
        )
    exact = logits(model)
    damage = {}
    for kind in ("q8_0", "q8_0_plain"):
        path = tmp_path / f"{kind}.gguf"
        export_gguf(model, path, kind, note=silent)
        stored, again = GGUF(path).tensors, load_gguf(path, "fp32", "cpu")
        for index, block in enumerate(again.blocks):
            for module, name in MATRICES.items():
                linear = block.get_submodule(module)
                assert isinstance(linear, Linear)
                if stored[f"blk.{index}.{name}.weight"].kind == TensorType.Q8_0:
                    linear.register_forward_pre_hook(lambda _, given: (in_8_bits(given[0]), *given[1:]))
        damage[kind] = float((logits(again) - exact).square().mean())
    assert damage["q8_0"] < damage["q8_0_plain"] / 2


@pytest.mark.parametrize("name", ["phi3", "gpt2", "deepseek-v2-plain", "qwen3-moe"])
def test_every_arrangement_of_projections_comes_back(name: str, tmp_path: Path) -> None:
    model, path = model_of(name), tmp_path / "model.gguf"
    export_gguf(model, path, "q8_0", note=silent)
    original = dict(model.named_parameters())
    for parameter, value in load_gguf(path, "fp32", "cpu").named_parameters():
        assert (value - original[parameter]).abs().max() <= original[parameter].abs().max() / 127, parameter
