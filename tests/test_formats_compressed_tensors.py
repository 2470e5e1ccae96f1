"""compressed-tensors, both ways: what we write opens in the library and in transformers, what it writes opens here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.model.grid import Grid
from luhuo.model.load import load_decoder
from luhuo.model.matrices import Activations, Kept
from luhuo.model.packed import unpacked
from luhuo.model.quantised_files import CompressedWeights
from luhuo.model.quantised_schemes import Schemes
from luhuo.model.save import save
from luhuo.model.weights import SafetensorsWeights
from luhuo.model.words import of_words, to_words, words_for
from tests.format_cases import dense_model, different, float8, kept_by, logits, moved, rounded, small, write

compressed_tensors = pytest.importorskip("compressed_tensors")
transformers = pytest.importorskip("transformers")

from compressed_tensors.compressors.pack_quantized import pack_to_int32, unpack_from_int32  # noqa: E402

GRIDS = [
    Grid(bits, group, symmetric)
    for bits in (8, 4, 3, 2)
    for group, symmetric in ((32, True), (32, False), (None, True), (None, False))
]


def named(grid: Grid) -> str:
    return f"{grid.bits} bits {grid.group} {'symmetric' if grid.symmetric else 'with zeros'}"


def theirs(folder: Path, *, widened: bool = False) -> Any:
    """transformers' model: `widened` as it is read, otherwise in its first pass."""
    extra = {"quantization_config": transformers.CompressedTensorsConfig(dequantize=True)} if widened else {}
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **extra).eval()


def settings_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())["quantization_config"]


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("columns", [8, 31, 32, 33, 96, 100])
def test_words_are_the_librarys(bits: int, columns: int) -> None:
    q = torch.randint(2**bits, (5, columns), generator=torch.Generator().manual_seed(columns))
    words = to_words(q, bits)
    assert torch.equal(words, pack_to_int32((q - 2 ** (bits - 1)).to(torch.int8), bits))
    assert words.shape[1] == words_for(columns, bits)
    assert torch.equal(of_words(words, bits, columns).long(), q)
    back = unpack_from_int32(words, bits, torch.Size(q.shape))
    assert torch.equal(back.long() + 2 ** (bits - 1), q)


@pytest.mark.parametrize("grid", GRIDS, ids=named)
def test_transformers_opens_a_directory_with_equal_logits(tmp_path: Path, grid: Grid) -> None:
    model = small()
    kept = kept_by(model, lambda _, weight: Kept(rounded(weight, grid)))
    write(model, kept, tmp_path)
    exact = dense_model(model, kept)
    expected = logits(exact)
    ours = load_decoder(tmp_path, dtype="fp32", device="cpu")
    torch.testing.assert_close(logits(ours), expected, atol=1e-5, rtol=1e-5)
    if grid.symmetric:  # with zeros transformers 5.23 expects them unpacked here, and refuses any directory
        torch.testing.assert_close(logits(theirs(tmp_path)), expected, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        for name in kept:  # widened, they multiply in the scale's format
            exact.get_parameter(name).copy_(exact.get_parameter(name).bfloat16())
    torch.testing.assert_close(logits(theirs(tmp_path, widened=True)), logits(exact), atol=1e-5, rtol=1e-5)


OUTER = {"model.embed_tokens.weight", "lm_head.weight"}
"""Loaded in 8 bits, and written as floats."""


@pytest.mark.parametrize("grid", GRIDS, ids=named)
def test_what_was_loaded_is_saved_with_the_same_bytes_and_logits(tmp_path: Path, grid: Grid) -> None:
    model = small()
    kept = kept_by(model, lambda _, weight: Kept(rounded(weight, grid)))
    write(model, kept, tmp_path / "first", torch.bfloat16)
    before = load_decoder(tmp_path / "first", device="cpu")
    save(before, tmp_path / "second", dtype=torch.bfloat16)
    assert different(tmp_path / "first", tmp_path / "second") <= OUTER
    assert settings_of(tmp_path / "first") == settings_of(tmp_path / "second")
    assert torch.equal(logits(before), logits(load_decoder(tmp_path / "first", device="cpu")))


def test_matrices_of_different_bits_stand_in_groups_of_their_own(tmp_path: Path) -> None:
    grids = {"attention.qkv": Grid(8, 32), "attention.out": Grid(3, 32), "mlp.gate_up": Grid(4, 32)}
    model = small().bfloat16().float()
    kept = kept_by(model, lambda name, w: Kept(rounded(w, grids.get(name.split(".", 2)[2][:-7], Grid(2, None)))))
    write(model, kept, tmp_path, torch.bfloat16)
    groups = settings_of(tmp_path)["config_groups"]
    assert sorted(group["weights"]["num_bits"] for group in groups.values()) == [2, 3, 4, 8]
    expected = logits(dense_model(model, kept))
    torch.testing.assert_close(logits(theirs(tmp_path)), expected, atol=1e-5, rtol=1e-5)
    loaded = load_decoder(tmp_path, device="cpu")
    widths = [loaded.get_submodule(f"blocks.1.{name}").width for name in (*grids, "mlp.down")]
    assert widths == [8, 3, 4, 2]
    save(loaded, tmp_path / "again", dtype=torch.bfloat16)
    assert different(tmp_path, tmp_path / "again") <= OUTER


def test_matrices_left_as_they_are_are_ignored_by_the_reader(tmp_path: Path) -> None:
    model = small()
    kept = kept_by(model, lambda _, weight: Kept(rounded(weight, Grid(4, 32))))
    kept = {name: one for name, one in kept.items() if "mlp.down" not in name}
    write(model, kept, tmp_path)
    assert "model.layers.1.mlp.down_proj" in settings_of(tmp_path)["ignore"]
    torch.testing.assert_close(logits(theirs(tmp_path)), logits(dense_model(model, kept)), atol=1e-5, rtol=1e-5)


def test_moved_columns_come_back_in_their_groups(tmp_path: Path) -> None:
    model = small().bfloat16().float()
    kept = kept_by(model, lambda _, weight: Kept(moved(weight, Grid(4, 32))))
    write(model, kept, tmp_path, torch.bfloat16)
    assert settings_of(tmp_path)["config_groups"]["group_0"]["weights"]["actorder"] == "group"
    found = load_decoder(tmp_path, dtype="fp32", device="cpu")
    torch.testing.assert_close(logits(found), logits(dense_model(model, kept)), atol=1e-5, rtol=1e-5)
    save(load_decoder(tmp_path, device="cpu"), tmp_path / "again", dtype=torch.bfloat16)
    assert different(tmp_path, tmp_path / "again") <= OUTER


@pytest.mark.parametrize("scale", [None, 0.02], ids=["dynamic", "static"])
def test_eight_bit_weights_and_inputs_are_what_the_library_computes(tmp_path: Path, scale: float | None) -> None:
    model = small()
    grid = Grid(8, None, scale_dtype=torch.float32)
    inputs = Activations("int", None if scale is None else torch.tensor([scale]))
    kept = kept_by(model, lambda _, weight: Kept(rounded(weight, grid), inputs))
    write(model, kept, tmp_path)
    settings = settings_of(tmp_path)
    assert settings["format"] == "int-quantized"
    assert settings["config_groups"]["group_0"]["input_activations"]["dynamic"] == (scale is None)
    opened = theirs(tmp_path)
    logits(opened)  # unpacks
    weight = opened.model.layers[1].mlp.down_proj.weight
    assert torch.equal(weight, dense_model(model, kept).get_parameter("blocks.1.mlp.down.weight"))
    with SafetensorsWeights(tmp_path) as files:
        found = unpacked(files, json.loads((tmp_path / "config.json").read_text()))
        assert isinstance(found, CompressedWeights)
        told = found.activations("model.layers.1.mlp.down_proj.weight")
    save(load_decoder(tmp_path, device="cpu"), tmp_path / "again", dtype=torch.float32)
    assert not {name for name in different(tmp_path, tmp_path / "again") if "_proj" in name}
    assert told is not None and told.kind == "int"
    assert (told.scale is None) == (scale is None)
    if scale is not None:
        assert told.scale is not None and float(told.scale) == pytest.approx(scale)


@pytest.mark.parametrize("whole", [False, True], ids=["by row", "by matrix"])
@pytest.mark.parametrize("inputs", [None, Activations("float")], ids=["plain inputs", "fp8 inputs"])
def test_fp8_weights_are_what_the_library_reads(tmp_path: Path, whole: bool, inputs: Activations | None) -> None:
    model = small()
    kept = kept_by(model, lambda _, weight: Kept(float8(weight, whole=whole), inputs))
    write(model, kept, tmp_path)
    assert settings_of(tmp_path)["format"] == ("naive-quantized" if inputs is None else "float-quantized")
    opened, expected = theirs(tmp_path), dense_model(model, kept)
    found = logits(opened)
    assert torch.equal(opened.model.layers[1].mlp.down_proj.weight, expected.get_parameter("blocks.1.mlp.down.weight"))
    if inputs is None:
        torch.testing.assert_close(found, logits(expected), atol=1e-5, rtol=1e-5)
        save(load_decoder(tmp_path, device="cpu"), tmp_path / "again", dtype=torch.float32)
        changed = {name for name in different(tmp_path, tmp_path / "again") if "_proj" in name}
        assert all(name.endswith("scale") for name in changed) if whole else not changed  # then one for each row
    ours = load_decoder(tmp_path, dtype="fp32", device="cpu").get_parameter("blocks.1.mlp.down.weight")
    assert torch.equal(ours, expected.get_parameter("blocks.1.mlp.down.weight"))


def ten_to_a_word(q: Tensor) -> Tensor:
    """Integers of 3 bits as older versions of the library packed them."""
    padded = torch.nn.functional.pad(q, (0, -q.shape[1] % 10)).view(len(q), -1, 10)
    return (padded.long() << (3 * torch.arange(10))).sum(-1).int()


def test_three_bits_as_older_versions_packed_them_are_read(tmp_path: Path) -> None:
    model = small()
    kept = kept_by(model, lambda _, weight: Kept(rounded(weight, Grid(3, 32))))
    write(model, kept, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for name in [name for name in tensors if name.endswith("weight_packed")]:
        columns = int(tensors[name.replace("_packed", "_shape")][1])
        tensors[name] = ten_to_a_word(of_words(tensors[name], 3, columns))
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    found = load_decoder(tmp_path, dtype="fp32", device="cpu")
    torch.testing.assert_close(logits(found), logits(dense_model(model, kept)), atol=1e-5, rtol=1e-5)


def compressed_by_the_library(folder: Path, scheme: dict[str, Any]) -> Any:
    """A model that the library itself rounded and saved in `folder`; the model, its numbers the rounded ones."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, QuantizationStatus, apply_quantization_config

    save(small(), folder / "plain")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "plain", dtype=torch.float32)
    config = QuantizationConfig(
        config_groups={"group_0": {"targets": ["Linear"], **scheme}},
        ignore=["lm_head"],
        quantization_status=QuantizationStatus.FROZEN,
    )
    apply_quantization_config(model, config)
    for module in model.modules():
        if getattr(getattr(module, "quantization_scheme", None), "weights", None) is not None:
            weights, weight = module.quantization_scheme.weights, module.weight.detach()
            wide = weight.unflatten(1, (-1, weights.group_size or weight.shape[1]))
            top = 2 ** (weights.num_bits - 1)
            low, high = wide.amin(-1).clamp(max=0), wide.amax(-1)
            scale = (high - low) / (2 * top - 1) if not weights.symmetric else wide.abs().amax(-1) / (top - 0.5)
            module.weight_scale.data.copy_(scale)
            if not weights.symmetric:
                module.weight_zero_point.data.copy_((-top - low / scale).round().clamp(-top, top - 1))
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(folder / "packed")
    compressor.update_config(str(folder / "packed"))
    return model


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("symmetric", [True, False])
def test_what_the_library_rounds_and_writes_opens_here(tmp_path: Path, bits: int, symmetric: bool) -> None:
    weights = {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": "group", "group_size": 32}
    reference = compressed_by_the_library(tmp_path, {"weights": weights})
    found = load_decoder(tmp_path / "packed", dtype="fp32", device="cpu")
    torch.testing.assert_close(logits(found), logits(reference), atol=1e-5, rtol=1e-5)
    kept = load_decoder(tmp_path / "packed", device="cpu")
    assert kept.get_submodule("blocks.1.mlp.down").width == bits


def group(bits: int, *targets: str) -> dict[str, Any]:
    return {"targets": list(targets), "weights": {"num_bits": bits}}


@pytest.mark.parametrize(
    ("groups", "name", "bits"),
    [
        ([group(4, "Linear")], "x.down_proj", 4),
        ([group(4, "x.up"), group(2, "x.down")], "x.down", 2),
        ([group(3, "re:.*up$"), group(8, "Linear")], "x.up", 3),
        ([group(3, "re:.*up$"), group(8, "Linear")], "x.down", 8),
    ],
)
def test_groups_name_matrices_by_class_name_or_expression(groups: list[dict], name: str, bits: int) -> None:
    settings = {"config_groups": {str(number): one for number, one in enumerate(groups)}}
    assert Schemes(settings, Path("model")).of(name).bits == bits


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)*b", "[", "x" * 600, r"(a)\1", ".*.*.*.*.*.*b"])
def test_an_expression_that_could_take_for_ever_is_not_tried(pattern: str) -> None:
    groups = {"a": {"targets": [f"re:{pattern}"], "weights": {}}, "b": {"targets": ["Linear"], "weights": {}}}
    with pytest.raises(LuhuoError, match="target"):
        Schemes({"config_groups": groups}, Path("model")).of("a" * 60)


@pytest.mark.parametrize("bits", [8, 4])
def test_an_output_matrix_of_its_own_may_be_rounded_too(tmp_path: Path, bits: int) -> None:
    model = small()
    kept = kept_by(model, lambda _, weight: Kept(rounded(weight, Grid(4, 32))))
    head = model.get_parameter("unembedding.weight").detach()
    kept["unembedding.weight"] = Kept(rounded(head, Grid(bits, 32)))  # pyright: ignore[reportArgumentType]
    write(model, kept, tmp_path)
    assert "lm_head" not in settings_of(tmp_path)["ignore"]
    expected = logits(dense_model(model, kept))
    torch.testing.assert_close(logits(theirs(tmp_path)), expected, atol=1e-5, rtol=1e-5)
    ours = load_decoder(tmp_path, dtype="fp32", device="cpu")
    torch.testing.assert_close(logits(ours), expected, atol=1e-5, rtol=1e-5)
