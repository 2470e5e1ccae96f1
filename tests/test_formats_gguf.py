"""GGUF in few bits: k-quants, which tensor gets which format, what matters more, and integers that are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.export import export
from luhuo.files.gguf import GGUF
from luhuo.files.gguf_types import TensorType
from luhuo.files.gguf_write import TensorPlan, write_gguf
from luhuo.kernels.gguf_dequantise import dequantise
from luhuo.kernels.gguf_quantise import quantise
from luhuo.kernels.gguf_quantise_k import KINDS_K
from luhuo.model.decoder import Decoder
from luhuo.model.gguf import export_gguf, find_layout
from luhuo.model.gguf_importance import measure_importance, read_importance
from luhuo.model.gguf_kinds import MIXES, mix_of, stored_as
from luhuo.model.grid import Grid
from luhuo.model.load import load_decoder
from luhuo.model.matrices import Kept
from luhuo.model.save import save
from tests.format_cases import dense_model, ids, kept_by, logits, moved, rounded, small, write

K = sorted(KINDS_K)
T = TensorType
LARGEST = {T.Q2_K: 0.28, T.Q3_K: 0.155, T.Q4_K: 0.074, T.Q5_K: 0.0365, T.Q6_K: 0.018}
"""Root mean square error of normal weights, as a share of theirs; ggml's own rounding is at 0.297, 0.151, 0.0714,
0.0361 and 0.0178."""


def named(kind: TensorType) -> str:
    return kind.name


def normal(rows: int = 64, columns: int = 512) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(3))


def written(weight: Tensor, kind: TensorType, importance: Tensor | None = None) -> Tensor:
    """What is read of a matrix in this format."""
    data = torch.cat(list(quantise(weight, kind, "x", importance)))
    return dequantise(data, kind, tuple(weight.shape))


@pytest.mark.parametrize("kind", K, ids=named)
def test_k_quants_lose_no_more_than_the_reference(kind: TensorType) -> None:
    weight = normal()
    assert float((written(weight, kind) - weight).square().mean().sqrt()) < LARGEST[kind]


@pytest.mark.parametrize("kind", K, ids=named)
def test_the_gguf_package_reads_the_same_numbers(kind: TensorType) -> None:
    weight = normal() * torch.logspace(-6, 3, 64)[:, None]
    data = torch.cat(list(quantise(weight, kind))).numpy()
    expected = gguf.dequantize(data.reshape(64, -1), gguf.GGMLQuantizationType(int(kind)))
    np.testing.assert_array_equal(written(weight, kind).numpy(), expected)


@pytest.mark.parametrize("kind", K, ids=named)
def test_what_matters_more_is_written_more_exactly(kind: TensorType) -> None:
    weight = normal()
    importance = torch.ones(512)
    importance[::8] = 100.0
    error = (written(weight, kind, importance) - weight).square().mean(0)
    plain = (written(weight, kind) - weight).square().mean(0)
    assert float((error * importance).sum()) < 0.97 * float((plain * importance).sum())
    assert float(error[::8].mean()) < float(plain[::8].mean())


def test_each_expert_has_its_own_importance() -> None:
    weight = normal(4, 512).reshape(2, 2, 512)
    importance = torch.stack([torch.ones(512), torch.linspace(0.01, 10, 512)])
    whole = written(weight, T.Q4_K, importance)
    for expert in range(2):
        assert torch.equal(whole[expert], written(weight[expert], T.Q4_K, importance[expert]))


@pytest.mark.parametrize("kind", K, ids=named)
def test_blocks_of_zeros_equal_numbers_and_tiny_ones_are_written(kind: TensorType) -> None:
    assert not written(torch.zeros(2, 256), kind).any()
    assert not written(torch.full((1, 256), 1e-30), kind).any()
    for value in (0.5, -0.5):
        same = written(torch.full((1, 256), value), kind)
        assert float((same - value).abs().max()) < 0.01
    alone = torch.zeros(1, 256)
    alone[0, 100] = -3.0
    found = written(alone, kind)
    assert float((found - alone).abs().max()) < 0.1 and int((found != 0).sum()) <= 32


@pytest.mark.parametrize("kind", K, ids=named)
def test_numbers_that_do_not_fit_are_refused_with_the_tensor_named(kind: TensorType) -> None:
    for bad in (float("nan"), float("inf"), 1e9):
        with pytest.raises(LuhuoError) as error:
            written(torch.full((1, 256), bad), kind)
        assert error.value.where == "x"


def test_pieces_of_a_large_matrix_join_without_a_seam() -> None:
    weight, importance = normal(300, 1024), torch.rand(1024) + 0.1
    whole = written(weight, T.Q4_K, importance)
    assert torch.equal(whole[290:], written(weight[290:], T.Q4_K, importance))


def layers_with(mix: str, tensor: str, kind: TensorType, layers: int = 16, **changes: Any) -> list[int]:
    config = small(layers=1, heads=8, kv_heads=2, **changes).config.model_copy(update={"layers": layers})
    found = (stored_as(f"blk.{n}.{tensor}.weight", (512, 512), mix_of(mix), config, tied=True) for n in range(layers))
    return [layer for layer, one in enumerate(found) if one == kind]


def test_mixes_give_some_layers_more_bits_as_llama_cpp_does() -> None:
    spread = [0, 1, 4, 7, 10, 13, 14, 15]
    assert layers_with("q4_k_m", "attn_v", T.Q6_K) == spread == layers_with("q5_k_m", "ffn_down", T.Q6_K)
    assert layers_with("q4_k_m", "attn_q", T.Q4_K) == list(range(16))
    assert layers_with("q4_k_s", "attn_v", T.Q5_K) == [0, 1, 2, 3]
    assert layers_with("q4_k_s", "ffn_down", T.Q5_K) == [0, 1]
    assert layers_with("q3_k_m", "attn_v", T.Q5_K) == [0, 1] and layers_with("q3_k_m", "ffn_down", T.Q5_K) == [0]
    assert layers_with("q3_k_m", "attn_output", T.Q4_K) == list(range(16))
    assert layers_with("q2_k", "attn_v", T.Q4_K) == list(range(16)) == layers_with("q2_k", "ffn_down", T.Q3_K)
    config = small(layers=1).config
    for name, tied, kind in (
        ("output.weight", False, T.Q6_K),
        ("token_embd.weight", True, T.Q6_K),
        ("token_embd.weight", False, T.Q4_K),
        ("blk.0.attn_norm.weight", False, T.F32),
    ):
        shape = (256,) if "norm" in name else (512, 256)
        assert stored_as(name, shape, mix_of("q4_k_m"), config, tied=tied) == kind


@pytest.mark.parametrize(
    ("mix", "width", "kind"),
    [
        ("q4_k_m", 576, T.Q5_0),
        ("q5_k_s", 576, T.Q5_1),
        ("q6_k", 96, T.Q8_0),
        ("q3_k_s", 96, T.Q4_0),
        ("q2_k", 40, T.F16),
    ],
)
def test_widths_of_no_superblock_get_a_narrower_format(mix: str, width: int, kind: TensorType) -> None:
    config = small(layers=1).config.model_copy(update={"layers": 16})
    assert stored_as("blk.2.attn_q.weight", (64, width), mix_of(mix), config, tied=False) == kind


def wide() -> Decoder:
    return small(hidden_size=256, intermediate_size=512, heads=4, kv_heads=2, head_dim=64, layers=2, vocab_size=96)


LOST = {"f32": 1e-5, "f16": 1e-3, "bf16": 0.02, "q8": 0.03, "q6": 0.1, "q5": 0.2, "q4": 0.4, "q3": 0.7, "q2": 0.9}
"""Largest error of the logits of random weights, as a share of them."""


@pytest.mark.parametrize("kind", sorted(set(MIXES) - {"kept"}))
def test_every_kind_of_file_opens_with_nearly_the_same_logits(tmp_path: Path, kind: str) -> None:
    model, notes = wide(), []
    export_gguf(model, tmp_path / "m.gguf", kind, note=notes.append)
    found = load_decoder(tmp_path / "m.gguf", dtype="fp32", device="cpu")
    expected = logits(model)
    bound = next(bound for start, bound in LOST.items() if kind.startswith(start))
    assert float((logits(found) - expected).square().mean()) < bound**2 * float(expected.square().mean())
    assert GGUF(tmp_path / "m.gguf").metadata["general.file_type"] == MIXES[kind].file_type


def test_a_file_says_which_matrices_were_too_narrow(tmp_path: Path) -> None:
    notes: list[str] = []
    export_gguf(small(), tmp_path / "m.gguf", "q4_k_m", note=notes.append)
    assert any("multiple of 256" in note and "Q5_0" in note for note in notes)


def tensors_of(path: Path) -> dict[str, tuple[TensorType, Tensor]]:
    file = GGUF(path)
    return {name: (one.kind, dequantise(file.data(name), one.kind, one.shape)) for name, one in file.tensors.items()}


def exported(tmp_path: Path, grid: Grid, dtype: str | None = None, change: Any = rounded) -> tuple[dict, Any, str]:
    """The tensors of a GGUF file made of a quantised directory, the model of its numbers, and what was said."""
    model = small().bfloat16().float()
    kept = kept_by(model, lambda _, weight: Kept(change(weight, grid)))
    write(model, kept, tmp_path / "in", torch.bfloat16)
    export(str(tmp_path / "in"), "gguf", dtype, tmp_path / "m.gguf")
    found = load_decoder(tmp_path / "m.gguf", dtype="fp32", device="cpu")
    return tensors_of(tmp_path / "m.gguf"), (found, dense_model(model, kept)), ""


@pytest.mark.parametrize(
    ("grid", "kind"),
    [
        (Grid(4, 32), T.Q4_0),
        (Grid(4, None), T.Q4_0),
        (Grid(3, 32), T.Q4_0),
        (Grid(2, 32), T.Q4_0),
        (Grid(8, 32), T.Q8_0),
        (Grid(8, None), T.Q8_0),
    ],
    ids=str,
)
def test_a_quantised_directory_keeps_its_integers_exactly(
    tmp_path: Path, grid: Grid, kind: TensorType, capsys
) -> None:
    tensors, (found, expected), _ = exported(tmp_path, grid)
    blocks = {name: one for name, (one, _) in tensors.items() if name.startswith("blk.") and "norm" not in name}
    assert set(blocks.values()) == {kind}
    assert f"Integers kept: {len(blocks)} {kind.name}." in capsys.readouterr().err
    for name, parameter in expected.named_parameters():
        if name.startswith("blocks."):
            assert torch.equal(found.get_parameter(name), parameter), name


def test_zeros_become_the_lows_of_q4_1_within_half_precision(tmp_path: Path, capsys) -> None:
    tensors, (found, expected), _ = exported(tmp_path, Grid(4, 32, False))
    assert tensors["blk.1.ffn_down.weight"][0] == T.Q4_1
    told = capsys.readouterr().err
    assert "14 Q4_1" in told
    for name in ("blocks.0.attention.qkv.weight", "blocks.1.mlp.down.weight"):
        torch.testing.assert_close(found.get_parameter(name), expected.get_parameter(name), atol=2e-4, rtol=1e-3)


def test_what_cannot_be_kept_is_rounded_anew_and_said(tmp_path: Path, capsys) -> None:
    tensors, (found, expected), _ = exported(tmp_path, Grid(4, 32), "q8_0_plain", moved)
    assert tensors["blk.1.ffn_down.weight"][0] == T.Q8_0
    assert "14 rounded anew: columns were moved" in capsys.readouterr().err
    name = "blocks.1.mlp.down.weight"
    torch.testing.assert_close(found.get_parameter(name), expected.get_parameter(name), atol=2e-3, rtol=0.02)


def test_fewer_bits_than_the_directory_has_are_rounded_anew(tmp_path: Path, capsys) -> None:
    tensors, _, _ = exported(tmp_path, Grid(8, 32), "q4_0")
    assert tensors["blk.1.ffn_down.weight"][0] == T.Q4_0
    assert "more bits than were asked for" in capsys.readouterr().err


def test_a_file_made_of_a_file_keeps_its_blocks(tmp_path: Path) -> None:
    save(small(), tmp_path / "in")
    export(str(tmp_path / "in"), "gguf", "q4_0", tmp_path / "one.gguf")
    export(str(tmp_path / "one.gguf"), "gguf", "kept", tmp_path / "two.gguf")
    one, two = tensors_of(tmp_path / "one.gguf"), tensors_of(tmp_path / "two.gguf")
    for name in one:
        assert one[name][0] == two[name][0] and torch.equal(one[name][1], two[name][1]), name


@torch.no_grad()
def test_importance_is_the_mean_square_of_what_a_matrix_is_given() -> None:
    model = small()
    found = measure_importance(model, find_layout(model.config), ids())
    states = model.blocks[0].attention_norm(model.embedding[ids()])  # pyright: ignore[reportCallIssue]
    expected = states.flatten(0, 1).square().mean(0)
    for name in ("attn_q", "attn_k", "attn_v"):
        torch.testing.assert_close(found[f"blk.0.{name}.weight"], expected, atol=1e-5, rtol=1e-5)
    assert found["blk.1.ffn_down.weight"].shape == (96,)
    assert torch.equal(found["blk.1.ffn_gate.weight"], found["blk.1.ffn_up.weight"])


def plan(name: str, tensor: Tensor) -> TensorPlan:
    return TensorPlan(name, tuple(tensor.shape), T.F32, lambda: [tensor.numpy()])


def test_a_file_of_llama_imatrix_is_read_and_another_refused(tmp_path: Path) -> None:
    sums = torch.rand(3, 8)
    tensors = [plan("a.in_sum2", sums), plan("a.counts", torch.tensor([[4.0], [2.0], [0.0]]))]
    write_gguf(tmp_path / "i.gguf", {"general.type": "imatrix"}, tensors)
    found = read_importance(tmp_path / "i.gguf")["a"]
    assert torch.equal(found[:2], sums[:2] / torch.tensor([[4.0], [2.0]])) and bool((found[2] == 1).all())
    write_gguf(tmp_path / "bad.gguf", {"general.type": "imatrix"}, [plan("a.in_sum2", -sums), tensors[1]])
    with pytest.raises(LuhuoError, match="damaged"):
        read_importance(tmp_path / "bad.gguf")
    write_gguf(tmp_path / "half.gguf", {"general.type": "imatrix"}, tensors[:1])
    with pytest.raises(LuhuoError, match="missing"):
        read_importance(tmp_path / "half.gguf")
    export_gguf(small(), tmp_path / "model.gguf", "f16", note=lambda _: None)
    with pytest.raises(LuhuoError, match="no importance matrix"):
        read_importance(tmp_path / "model.gguf")
