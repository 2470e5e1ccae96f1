"""Quantised directories in the layouts of GPTQ, AWQ and bitsandbytes: each unpacked from its published description
alone, and read back with the same integers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.export import export
from luhuo.model.grid import Grid
from luhuo.model.load import load_decoder
from luhuo.model.matrices import Activations, Kept
from tests.format_cases import SMALL, dense_model, different, kept_by, logits, moved, rounded, small, write

DOWN = "model.layers.1.mlp.down_proj"
WIDE = SMALL | {"intermediate_size": 128}
"""All sizes fill words of three bits, too."""


def bits_of(words: Tensor, bits: int, count: int) -> list[int]:
    """Integers out of one line of words, bit after bit."""
    line = 0
    for place, word in enumerate(words.tolist()):
        line |= (word & 0xFFFFFFFF) << (32 * place)
    return [(line >> (bits * place)) & (2**bits - 1) for place in range(count)]


def gptq_matrix(parts: dict[str, Tensor], bits: int, added: int) -> Tensor:
    """What a matrix in the GPTQ layout stands for, (rows, columns), number by number."""
    index = parts["g_idx"].tolist()
    rows, columns = parts["qweight"].shape[1], len(index)
    q = [bits_of(parts["qweight"][:, row], bits, columns) for row in range(rows)]
    zeros = [bits_of(line, bits, rows) for line in parts["qzeros"]]
    scales = parts["scales"].float()
    wide = torch.empty(rows, columns)
    for row in range(rows):
        for column in range(columns):
            zero = zeros[index[column]][row] + added
            wide[row, column] = (q[row][column] - zero) * scales[index[column], row]
    return wide


def awq_matrix(parts: dict[str, Tensor], group: int) -> Tensor:
    """The same of AWQ: row 8 n + i lies in word n at nibble 0, 4, 1, 5, 2, 6, 3, 7."""
    places = (0, 4, 1, 5, 2, 6, 3, 7)
    columns, words = parts["qweight"].shape
    wide = torch.empty(words * 8, columns)
    for row in range(words * 8):
        word, shift = row // 8, 4 * places[row % 8]
        q = (parts["qweight"][:, word] >> shift) & 15
        zero = (parts["qzeros"][:, word] >> shift) & 15
        index = torch.arange(columns) // group
        wide[row] = (q - zero[index]).float() * parts["scales"].float()[index, row]
    return wide


def parts_of(folder: Path, base: str = DOWN) -> dict[str, Tensor]:
    found = load_file(folder / "model.safetensors")
    return {name.removeprefix(f"{base}."): tensor for name, tensor in found.items() if name.startswith(f"{base}.")}


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())["quantization_config"]


def source(folder: Path, grid: Grid, **changes: Any) -> dict[str, Kept]:
    """A quantised directory; returns its matrices."""
    model = small(**WIDE).bfloat16().float()
    change = changes.pop("change", rounded)
    kept = kept_by(model, lambda _, weight: Kept(change(weight, grid), **changes))
    write(model, kept, folder, torch.bfloat16)
    return kept


def expected_matrix(kept: dict[str, Kept]) -> Tensor:
    return dense_model(small(**WIDE), kept).get_parameter("blocks.1.mlp.down.weight")


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "zeros"])
def test_gptq_as_it_is_published(tmp_path: Path, bits: int, symmetric: bool) -> None:
    kept = source(tmp_path / "in", Grid(bits, 32, symmetric))  # pyright: ignore[reportArgumentType]
    export(str(tmp_path / "in"), "gptq", None, tmp_path / "out")
    settings = config_of(tmp_path / "out")
    assert settings == json.loads((tmp_path / "out" / "quantize_config.json").read_text())
    assert (settings["bits"], settings["group_size"], settings["sym"]) == (bits, 32, symmetric)
    added = 0 if settings["checkpoint_format"] == "gptq_v2" else 1
    found = gptq_matrix(parts_of(tmp_path / "out"), bits, added)
    torch.testing.assert_close(found, expected_matrix(kept), atol=1e-6, rtol=1e-6)
    assert not settings["desc_act"] and parts_of(tmp_path / "out")["scales"].dtype == torch.float16


def test_gptq_keeps_the_group_of_every_moved_column(tmp_path: Path) -> None:
    kept = source(tmp_path / "in", Grid(4, 32), change=moved)
    export(str(tmp_path / "in"), "gptq", None, tmp_path / "out")
    assert config_of(tmp_path / "out")["desc_act"]
    found = gptq_matrix(parts_of(tmp_path / "out"), 4, 1)
    torch.testing.assert_close(found, expected_matrix(kept), atol=1e-6, rtol=1e-6)


def test_gptq_stores_a_zero_of_nothing_in_its_second_form_only(tmp_path: Path) -> None:
    model = small(**WIDE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()  # all above nothing: every zero is 0
    write(model, kept_by(model, lambda _, w: Kept(rounded(w, Grid(4, 32, False)))), tmp_path / "in")
    export(str(tmp_path / "in"), "gptq", None, tmp_path / "out")
    assert config_of(tmp_path / "out")["checkpoint_format"] == "gptq_v2"
    before, after = (load_decoder(tmp_path / name, dtype="fp32", device="cpu") for name in ("in", "out"))
    assert torch.equal(logits(before), logits(after))


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "zeros"])
def test_awq_as_it_is_published(tmp_path: Path, symmetric: bool) -> None:
    kept = source(tmp_path / "in", Grid(4, 32, symmetric))
    export(str(tmp_path / "in"), "awq", None, tmp_path / "out")
    settings = config_of(tmp_path / "out")
    assert (settings["bits"], settings["group_size"], settings["version"]) == (4, 32, "gemm")
    found = awq_matrix(parts_of(tmp_path / "out"), 32)
    torch.testing.assert_close(found, expected_matrix(kept), atol=1e-6, rtol=1e-6)


def test_bitsandbytes_as_it_is_published(tmp_path: Path) -> None:
    kept = source(tmp_path / "in", Grid(8, None))
    export(str(tmp_path / "in"), "bitsandbytes", None, tmp_path / "out")
    settings, parts = config_of(tmp_path / "out"), parts_of(tmp_path / "out")
    assert settings["load_in_8bit"] and settings["quant_method"] == "bitsandbytes"
    assert parts["weight"].dtype == torch.int8 and parts["weight_format"].dtype == torch.uint8
    found = parts["weight"].float() * parts["SCB"][:, None] / 127
    torch.testing.assert_close(found, expected_matrix(kept), atol=1e-7, rtol=1e-6)


def test_llm_int8_is_written_with_its_threshold_and_read_with_it(tmp_path: Path) -> None:
    source(tmp_path / "in", Grid(8, None, scale_dtype=torch.float32), activations=Activations(threshold=5.0))
    assert config_of(tmp_path / "in")["llm_int8_threshold"] == 5.0
    model = load_decoder(tmp_path / "in", device="cpu")
    assert model.get_submodule("blocks.1.mlp.down").threshold == 5.0
    export(str(tmp_path / "in"), "bitsandbytes", None, tmp_path / "out")
    assert not different(tmp_path / "in", tmp_path / "out")
    assert config_of(tmp_path / "out")["llm_int8_threshold"] == 5.0


@pytest.mark.parametrize("to", ["gptq", "awq", "compressed-tensors"])
def test_a_layout_reads_back_with_bit_equal_logits_and_the_bytes_it_came_from(tmp_path: Path, to: str) -> None:
    source(tmp_path / "in", Grid(4, 32, False))
    export(str(tmp_path / "in"), to, None, tmp_path / "out")
    for dtype in ("fp32", "auto"):
        before, after = (load_decoder(tmp_path / name, dtype=dtype, device="cpu") for name in ("in", "out"))
        assert torch.equal(logits(before), logits(after))
    export(str(tmp_path / "out"), "compressed-tensors", None, tmp_path / "back")
    export(str(tmp_path / "back"), to, None, tmp_path / "again")
    assert not different(tmp_path / "out", tmp_path / "again")
    ends = ("weight_packed", "weight_zero_point", "weight_shape")
    assert not [name for name in different(tmp_path / "in", tmp_path / "back") if name.endswith(ends)]


def test_matrices_left_as_they_are_are_named_to_the_reader(tmp_path: Path) -> None:
    model = small(**WIDE)
    kept = kept_by(model, lambda _, weight: Kept(rounded(weight, Grid(4, 32))))
    write(model, {name: one for name, one in kept.items() if "mlp.down" not in name}, tmp_path / "in")
    export(str(tmp_path / "in"), "gptq", None, tmp_path / "gptq")
    assert r"-:^model\.layers\.1\.mlp\.down_proj$" in config_of(tmp_path / "gptq")["dynamic"]
    export(str(tmp_path / "in"), "awq", None, tmp_path / "awq")
    assert DOWN in config_of(tmp_path / "awq")["modules_to_not_convert"]
    assert torch.equal(*(logits(load_decoder(tmp_path / name, dtype="fp32", device="cpu")) for name in ("in", "awq")))


@pytest.mark.parametrize(
    ("to", "grid", "change", "word"),
    [
        ("awq", Grid(8, 32), rounded, "4 bits"),
        ("awq", Grid(4, 32), moved, "moved"),
        ("bitsandbytes", Grid(8, 32), rounded, "scale a row"),
        ("bitsandbytes", Grid(4, None), rounded, "scale a row"),
    ],
)
def test_what_a_layout_does_not_hold_is_refused_by_name(
    tmp_path: Path, to: str, grid: Grid, change, word: str
) -> None:
    source(tmp_path / "in", grid, change=change)
    with pytest.raises(LuhuoError, match=word) as error:
        export(str(tmp_path / "in"), to, None, tmp_path / "out")
    assert error.value.where and error.value.fix and not (tmp_path / "out").exists()


def test_mixed_bits_and_plain_models_are_refused_where_one_number_of_bits_is_wanted(tmp_path: Path) -> None:
    model = small(**WIDE)
    grids = {True: Grid(8, 32), False: Grid(4, 32)}
    write(model, kept_by(model, lambda name, w: Kept(rounded(w, grids["mlp.down" in name]))), tmp_path / "mixed")
    with pytest.raises(LuhuoError, match="one number of bits"):
        export(str(tmp_path / "mixed"), "gptq", None, tmp_path / "out")
    write(model, {}, tmp_path / "plain")
    (tmp_path / "plain" / "config.json").write_text(
        json.dumps(
            {
                key: value
                for key, value in json.loads((tmp_path / "plain" / "config.json").read_text()).items()
                if key != "quantization_config"
            }
        )
    )
    with pytest.raises(LuhuoError, match="quantised to integers"):
        export(str(tmp_path / "plain"), "awq", None, tmp_path / "out")
