"""Models to GGUF and back. `bench/gguf_llama_cpp.py --families` compares the same files with llama.cpp itself."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch

from luhuo.core.errors import LuhuoError
from luhuo.files.gguf import GGUF
from luhuo.files.gguf_types import TensorType
from luhuo.files.gguf_write import TensorPlan, write_gguf
from luhuo.model import families
from luhuo.model.config import ModelConfig, RopeConfig
from luhuo.model.decoder import Decoder
from luhuo.model.gguf import export_gguf, load_gguf
from luhuo.model.gguf_config import fit_llama3
from luhuo.model.initialise import initialise
from luhuo.model.load import load
from luhuo.model.rope import frequencies
from tests.family_cases import CASES
from tests.family_checks import random_ids, reference, rewrite
from tests.gguf_cases import GGUF_CASES, REFUSED

GENERATED = {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"}


@cache
def model_of(name: str) -> Decoder:
    case = (CASES | GGUF_CASES)[name]
    with tempfile.TemporaryDirectory() as folder:
        reference(case).save_pretrained(folder)
        if case.layout is not None:
            rewrite(Path(folder), case.layout.publish)
        return load(folder, dtype="fp32", device="cpu")


def small(**changes: Any) -> Decoder:
    fields = {
        "family": "llama", "vocab_size": 96, "hidden_size": 64, "layers": 2, "heads": 4, "kv_heads": 2,
        "head_dim": 16, "intermediate_size": 96, "qk_norm": "none", "tie_embeddings": False,
    }  # fmt: skip
    model = Decoder(ModelConfig.parse({**fields, **changes}))
    initialise(model, 1)
    return model.eval()


def silent(_: str) -> None:
    pass


@torch.no_grad()
def logits(model: Decoder) -> torch.Tensor:
    return model(random_ids(2, 40) % model.config.vocab_size)


@pytest.mark.parametrize("name", GGUF_CASES)
def test_a_model_comes_back_with_equal_logits_under_names_of_the_reference(name: str, tmp_path: Path) -> None:
    model, path = model_of(name), tmp_path / "model.gguf"
    export_gguf(model, path, "f32", note=silent)
    again = load_gguf(path, "fp32", "cpu")
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=1e-5)
    file = GGUF(path)
    architecture = next(
        key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == file.metadata["general.architecture"]
    )
    allowed = {gguf.TENSOR_NAMES[kind] for kind in gguf.MODEL_TENSORS[architecture]}
    for tensor in file.tensors.keys() - GENERATED:
        module = tensor.rsplit(".", 1)[0]
        template = ".".join("{bid}" if part.isdecimal() else part for part in module.split("."))
        assert template in allowed, tensor
    published = gguf.get_tensor_name_map(architecture, model.config.layers)
    for link in families.links(model.config):
        for theirs in link.theirs:
            expected = published.get_name(theirs, try_suffixes=(".weight", ".bias"))
            if expected is not None and ".mtp" not in link.ours and "head" not in link.ours:
                assert expected in file.tensors or "kv_b" in expected or _one_of_the_parts(expected, file), theirs


def _one_of_the_parts(expected: str, file: GGUF) -> bool:
    """A fused projection may be kept in parts there."""
    parts = {"attn_qkv": ("attn_q", "attn_k", "attn_v")}
    return any(
        all(expected.replace(fused, part) in file.tensors for part in several)
        for fused, several in parts.items()
        if fused in expected
    )


@pytest.mark.parametrize("name", REFUSED)
def test_a_variant_that_llama_cpp_does_not_compute_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match=r"llama\.cpp|GGUF") as caught:
        export_gguf(model_of(name), tmp_path / "model.gguf", "f32", note=silent)
    assert REFUSED[name] in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["mistral", "phi3", "qwen2-window"])
def test_windows_that_llama_cpp_leaves_out_are_told(name: str, tmp_path: Path) -> None:
    notes: list[str] = []
    export_gguf(model_of(name), tmp_path / "model.gguf", "f32", note=notes.append)
    assert any("beyond 9 tokens" in note for note in notes)


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0_plain", "q4_0", "q4_1"])
@pytest.mark.parametrize("tied", [True, False])
def test_matrices_take_the_format_that_llama_cpp_would_choose(kind: str, tied: bool, tmp_path: Path) -> None:
    model, path = small(tie_embeddings=tied), tmp_path / "model.gguf"
    export_gguf(model, path, kind, note=silent)
    last = "token_embd.weight" if tied else "output.weight"
    for tensor in gguf.GGUFReader(path).tensors:
        if "norm" in tensor.name:
            expected = "F32"
        elif tensor.name == last and kind.startswith("q4"):
            expected = "Q8_0"
        else:
            expected = kind.removesuffix("_plain").upper()
        assert tensor.tensor_type.name == expected, tensor.name
    again, original = load_gguf(path, "fp32", "cpu"), dict(model.named_parameters())
    step = {"f16": 1e-3, "bf16": 8e-3, "q8_0_plain": 1 / 127, "q4_0": 1 / 7, "q4_1": 1 / 7}[kind]
    for name, parameter in again.named_parameters():
        assert (parameter - original[name]).abs().max() <= step * original[name].abs().max(), name


def test_rows_that_are_no_multiple_of_a_block_stay_in_half_precision(tmp_path: Path) -> None:
    notes: list[str] = []
    model, path = small(intermediate_size=72), tmp_path / "model.gguf"
    export_gguf(model, path, "q8_0", note=notes.append)
    kinds = {name: info.kind for name, info in GGUF(path).tensors.items()}
    assert kinds["blk.0.ffn_down.weight"] == TensorType.F16
    assert kinds["blk.0.ffn_up.weight"] == TensorType.Q8_0
    assert any("ffn_down" in note for note in notes)


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="Unknown format") as caught:
        export_gguf(small(), tmp_path / "model.gguf", "q5_k")
    assert "q8_0" in str(caught.value)


def test_equal_models_are_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        export_gguf(small(), tmp_path / name / "model.gguf", "q4_1", note=silent)
    assert (tmp_path / "a/model.gguf").read_bytes() == (tmp_path / "b/model.gguf").read_bytes()


@pytest.mark.parametrize(("dim", "original", "factor"), [(128, 8192, 8.0), (64, 8192, 32.0), (128, 4096, 16.0)])
def test_the_settings_of_llama_3_are_found_from_the_divisors(dim: int, original: int, factor: float) -> None:
    rope = RopeConfig(
        theta=500_000.0, kind="llama3", factor=factor, low_factor=1.0, high_factor=4.0, original_positions=original
    )
    plain = rope.theta ** -(torch.arange(0, dim, 2) / dim)
    divisors = (plain / frequencies(rope, dim, 1, 1)[0]).tolist()
    found = fit_llama3(divisors, rope.theta, dim, {})
    assert (found["rope_type"], found["factor"]) == ("llama3", factor)
    assert found["high_freq_factor"] == pytest.approx(4.0, abs=0.01)
    assert found["original_max_position_embeddings"] == pytest.approx(original, rel=1e-3)


def test_divisors_of_another_origin_are_kept_as_they_are() -> None:
    divisors = [1.0, 1.0, 3.0, 2.0, 8.0, 5.0, 8.0, 8.0]
    found = fit_llama3(divisors, 10_000.0, 16, {"max_position_embeddings": 512})
    assert found["rope_type"] == "longrope"
    assert found["short_factor"] == found["long_factor"] == divisors
    assert found["attention_factor"] == 1.0


def plans(path: Path) -> tuple[dict[str, Any], list[TensorPlan]]:
    """What a file holds, to be written otherwise."""
    file = GGUF(path)
    tensors = [
        TensorPlan(name, info.shape, info.kind, lambda name=name: [file.data(name)])
        for name, info in file.tensors.items()
    ]
    return dict(file.metadata), tensors


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "good.gguf"
    export_gguf(small(), path, "q8_0", note=silent)
    yield path


def test_tensors_that_are_missing_unexpected_or_misshapen_are_named(written: Path, tmp_path: Path) -> None:
    metadata, tensors = plans(written)
    bad = tmp_path / "bad.gguf"
    for change, told in [
        ([t for t in tensors if t.name != "output_norm.weight"], "missing (1): output_norm.weight"),
        ([*tensors, TensorPlan("more.bias", (1,), TensorType.F32, lambda: [bytes(4)])], "unexpected (1): more.bias"),
        ([t if "norm" not in t.name else TensorPlan(t.name, (2,), t.kind, lambda: [bytes(8)]) for t in tensors],
         "blk.0.attn_norm.weight [2] ≠ [64]"),
    ]:  # fmt: skip
        write_gguf(bad, metadata, change)
        with pytest.raises(LuhuoError) as caught:
            load_gguf(bad, "fp32", "cpu")
        assert told in str(caught.value)
        assert "bad.gguf" in str(caught.value)
        assert caught.value.fix


def test_an_architecture_that_is_not_read_is_named_with_those_that_are(written: Path, tmp_path: Path) -> None:
    metadata, tensors = plans(written)
    write_gguf(tmp_path / "bad.gguf", {**metadata, "general.architecture": "mamba"}, tensors)
    with pytest.raises(LuhuoError, match="architecture") as caught:
        load_gguf(tmp_path / "bad.gguf")
    assert "mamba" in str(caught.value)
    assert "qwen3" in str(caught.value)


def test_metadata_that_lack_a_size_are_a_message(written: Path, tmp_path: Path) -> None:
    metadata, tensors = plans(written)
    for key in ("llama.embedding_length", "llama.block_count", "llama.attention.head_count"):
        write_gguf(tmp_path / "bad.gguf", {k: v for k, v in metadata.items() if k != key}, tensors)
        with pytest.raises(LuhuoError) as caught:
            load_gguf(tmp_path / "bad.gguf")
        assert "bad.gguf" in str(caught.value)


@pytest.mark.parametrize("value", ["many", -1, 0, 2**31, [1, 2], True])
def test_metadata_of_the_wrong_kind_are_a_message(value: Any, written: Path, tmp_path: Path) -> None:
    metadata, tensors = plans(written)
    for key in ("llama.attention.head_count", "llama.embedding_length", "llama.feed_forward_length"):
        write_gguf(tmp_path / "bad.gguf", {**metadata, key: value}, tensors)
        with pytest.raises(LuhuoError):
            load_gguf(tmp_path / "bad.gguf")


def test_a_tensor_in_a_format_that_is_not_read_is_named(written: Path, tmp_path: Path) -> None:
    metadata, tensors = plans(written)
    metadata["llama.embedding_length"] = 64
    name = "blk.1.ffn_up.weight"
    odd = [
        t if t.name != name else TensorPlan(name, t.shape, TensorType.I8, lambda t=t: [bytes(t.shape[0] * t.shape[1])])
        for t in tensors
    ]
    write_gguf(tmp_path / "bad.gguf", metadata, odd)
    with pytest.raises(LuhuoError, match="not read") as caught:
        load_gguf(tmp_path / "bad.gguf", "fp32", "cpu")
    assert name in str(caught.value)
    assert "bad.gguf" in str(caught.value)


def test_a_model_that_was_split_is_read_from_its_first_part(written: Path, tmp_path: Path) -> None:
    metadata, tensors = plans(written)
    half = len(tensors) // 2
    first, second = (tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2))
    write_gguf(first, {**metadata, "split.no": 0, "split.count": 2}, tensors[:half])
    write_gguf(second, {"split.no": 1, "split.count": 2}, tensors[half:])
    assert torch.equal(logits(load_gguf(first, "fp32", "cpu")), logits(load_gguf(written, "fp32", "cpu")))
    with pytest.raises(LuhuoError, match="part of a model") as caught:
        load_gguf(tmp_path / "m-00001-of-00002.gguf".replace("00001", "00002"))
    assert "00001" in str(caught.value)
    second.unlink()
    with pytest.raises(LuhuoError, match="no such file"):
        load_gguf(first)


def test_load_takes_a_file_and_a_reference(written: Path) -> None:
    for given in (written, str(written), f"gguf:{written}"):
        assert load(given, dtype="fp32", device="cpu").config.layers == 2


def test_half_precision_models_are_written_as_they_are(tmp_path: Path) -> None:
    model = small().to(torch.bfloat16)
    export_gguf(model, tmp_path / "model.gguf", "bf16", note=silent)
    again = load_gguf(tmp_path / "model.gguf", "bf16", "cpu")
    for name, parameter in again.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name)), name
