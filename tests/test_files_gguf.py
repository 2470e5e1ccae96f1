"""The GGUF container: what we write the reference reads, and the other way round."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from luhuo.core.errors import LuhuoError
from luhuo.files.gguf import GGUF
from luhuo.files.gguf_types import TensorType, ValueType
from luhuo.files.gguf_write import TensorPlan, Typed, write_gguf
from luhuo.kernels.gguf_dequantise import dequantise
from luhuo.kernels.gguf_quantise import quantise

METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "general.name": "炉火 😀",
    "flag": True,
    "count": 7,
    "negative": -7,
    "large": 2**40,
    "ratio": 0.25,
    "u8": Typed(ValueType.UINT8, 255),
    "i8": Typed(ValueType.INT8, -128),
    "u16": Typed(ValueType.UINT16, 65_535),
    "i16": Typed(ValueType.INT16, -32_768),
    "i64": Typed(ValueType.INT64, -(2**62)),
    "f64": Typed(ValueType.FLOAT64, 0.1),
    "texts": ["a", "", "炉"],
    "types": [1, 3, 6],
    "scores": [0.5, -1.5],
    "flags": [True, False],
    "bytes": Typed(ValueType.UINT8, [0, 255]),
}


def plain(value: Any) -> Any:
    return value.value if isinstance(value, Typed) else value


def plan(name: str, tensor: torch.Tensor, kind: TensorType) -> TensorPlan:
    return TensorPlan(name, tuple(tensor.shape), kind, lambda: (p.numpy() for p in quantise(tensor, kind)))


def some_tensors() -> dict[str, tuple[torch.Tensor, TensorType]]:
    torch.manual_seed(0)
    kinds = (TensorType.F32, TensorType.F16, TensorType.BF16, TensorType.Q8_0, TensorType.Q4_0, TensorType.Q4_1)
    found = {f"blk.0.{kind.name}": (torch.randn(3, 64), kind) for kind in kinds}
    return found | {"vector": (torch.randn(5), TensorType.F32), "cube": (torch.randn(2, 3, 32), TensorType.Q8_0)}


@pytest.mark.parametrize("alignment", [32, 64, 8])
def test_the_reference_reads_what_we_write(tmp_path: Path, alignment: int) -> None:
    path, tensors = tmp_path / "ours.gguf", some_tensors()
    plans = [plan(name, tensor, kind) for name, (tensor, kind) in tensors.items()]
    write_gguf(path, METADATA, plans, alignment=alignment)
    reader = gguf.GGUFReader(path)
    assert reader.alignment == alignment
    for key, value in METADATA.items():
        field = reader.fields[key]
        assert field.contents() == plain(value), key
        if isinstance(value, Typed):
            assert field.types[-1].name == value.kind.name
    assert [tensor.name for tensor in reader.tensors] == list(tensors)
    for found in reader.tensors:
        tensor, kind = tensors[found.name]
        assert found.tensor_type.name == kind.name
        assert tuple(reversed(found.shape.tolist())) == tuple(tensor.shape)
        expected = gguf.quantize(tensor.numpy(), gguf.GGMLQuantizationType(int(kind)))
        np.testing.assert_array_equal(found.data.view(np.uint8).reshape(-1), expected.view(np.uint8).reshape(-1))


def test_we_read_what_the_reference_writes(tmp_path: Path) -> None:
    path = tmp_path / "theirs.gguf"
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_uint32("qwen3.block_count", 3)
    writer.add_int8("small", -3)
    writer.add_uint64("big", 2**63)
    writer.add_float32("eps", 1e-6)
    writer.add_float64("double", 0.1)
    writer.add_bool("yes", True)
    writer.add_string("text", "炉火")
    writer.add_array("tokens", ["a", "炉", ""])
    writer.add_array("types", [1, 2, 3])
    writer.add_array("nested", [[1, 2], [3]])
    torch.manual_seed(1)
    tensors = {name: torch.randn(2, 4, 64).numpy() for name in ("one", "two")}
    writer.add_tensor("one", tensors["one"])
    blocks = gguf.quantize(tensors["two"], gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("two", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    file = GGUF(path)
    found = dict(file.metadata)
    assert found["general.architecture"] == "qwen3"
    assert found["qwen3.block_count"] == 3
    assert (found["small"], found["big"], found["yes"], found["text"]) == (-3, 2**63, True, "炉火")
    assert found["eps"] == np.float32(1e-6)
    assert found["double"] == 0.1
    assert (found["tokens"], found["types"], found["nested"]) == (["a", "炉", ""], [1, 2, 3], [[1, 2], [3]])
    assert {name: info.shape for name, info in file.tensors.items()} == {"one": (2, 4, 64), "two": (2, 4, 64)}
    one, two = file.tensors["one"], file.tensors["two"]
    assert torch.equal(dequantise(file.data("one"), one.kind, one.shape), torch.from_numpy(tensors["one"]))
    expected = gguf.dequantize(blocks, gguf.GGMLQuantizationType.Q8_0)
    assert torch.equal(dequantise(file.data("two"), two.kind, two.shape), torch.from_numpy(expected))


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "round.gguf"
    write_gguf(path, METADATA, [])
    file = GGUF(path)
    assert dict(file.metadata) == {key: plain(value) for key, value in METADATA.items()}
    assert list(file.metadata) == list(METADATA)
    kinds = {"flag": "BOOL", "count": "UINT32", "negative": "INT32", "large": "UINT64", "ratio": "FLOAT32"}
    assert {key: file.metadata.kind(key).name for key in kinds} == kinds


def test_version_2_is_read(tmp_path: Path) -> None:
    path = tmp_path / "two.gguf"
    write_gguf(path, {"a": "b"}, [])
    data = bytearray(path.read_bytes())
    data[4:8] = struct.pack("<I", 2)
    path.write_bytes(data)
    assert GGUF(path).version == 2
    assert GGUF(path).metadata["a"] == "b"


def test_every_tensor_type_has_the_block_of_the_reference() -> None:
    for kind, (weights, size) in gguf.GGML_QUANT_SIZES.items():
        ours = TensorType[kind.name]
        assert (int(ours), ours.weights, ours.bytes) == (int(kind), weights, size)


@pytest.mark.parametrize(
    ("metadata", "found"),
    [({"a": {}}, "dict"), ({"a": ["x", 1]}, "STRING"), ({"a": Typed(ValueType.UINT8, 256)}, "UINT8"),
     ({"a": Typed(ValueType.INT8, [999])}, "INT8")],
)  # fmt: skip
def test_a_value_that_has_no_type_or_does_not_fit_is_refused_and_nothing_is_written(
    metadata: dict[str, Any], found: str, tmp_path: Path
) -> None:
    with pytest.raises(LuhuoError, match=r"GGUF|fit") as caught:
        write_gguf(tmp_path / "bad.gguf", metadata, [])
    assert found in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_row_that_is_no_whole_number_of_blocks_is_refused(tmp_path: Path) -> None:
    wrong = TensorPlan("odd", (2, 40), TensorType.Q8_0, list)
    with pytest.raises(LuhuoError, match="Q8_0") as caught:
        write_gguf(tmp_path / "bad.gguf", {}, [wrong])
    assert "odd" in str(caught.value)


def test_a_tensor_with_too_few_bytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="number of bytes"):
        write_gguf(tmp_path / "bad.gguf", {}, [TensorPlan("short", (2, 32), TensorType.F32, lambda: [bytes(8)])])
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="no such file"):
        GGUF(tmp_path / "none.gguf")
