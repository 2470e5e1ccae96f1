"""Safetensors: read as the reference reads them, and nothing but a message for a damaged or hostile file."""

from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from luhuo.core.errors import LuhuoError
from luhuo.files.safetensors import DTYPES, Safetensors
from tests.fuzz import CONSTANT, check_mutations


def small_file(path: Path) -> bytes:
    torch.manual_seed(0)
    tensors = {
        "model.embed_tokens.weight": torch.randn(6, 8),
        "model.layers.0.mlp.up_proj.weight": torch.randn(4, 8).bfloat16(),
        "炉火": torch.arange(5),
        "empty": torch.empty(0, 3),
        "one": torch.tensor(2.5),
    }
    save_file(tensors, path, {"format": "pt", "note": '炉火 "quoted" \\ line\nend'})
    return path.read_bytes()


def write(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def read_everything(file: object) -> None:
    assert isinstance(file, Safetensors)
    for key in file.metadata:
        try:
            file.metadata[key]
        except LuhuoError as error:
            assert key in str(error)
    for name, (dtype, shape, _, count) in file.tensors.items():
        tensor = file.tensor(name)
        assert tuple(tensor.shape) == shape
        assert tensor.nbytes == count
        assert str(tensor.dtype) == "torch." + DTYPES[dtype][0]


def test_names_metadata_and_tensors_are_those_of_the_reference(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    small_file(path)
    ours = Safetensors(path)
    with safe_open(path, "pt") as reference:
        assert dict(ours.metadata) == reference.metadata()
        assert set(ours.tensors) == set(reference.keys())
        for name in ours.tensors:
            expected = reference.get_tensor(name)
            assert torch.equal(ours.tensor(name), expected)
            assert ours.tensor(name).dtype == expected.dtype


@pytest.mark.parametrize("dtype", sorted({name for name, _ in DTYPES.values()}))
def test_every_dtype_is_read(dtype: str, tmp_path: Path) -> None:
    kind = getattr(torch, dtype)
    bytes_of_it = torch.randint(0, 2, (48,), dtype=torch.uint8)
    tensor = bytes_of_it.bool() if kind == torch.bool else bytes_of_it.view(kind)
    save_file({"a": tensor}, tmp_path / "a.safetensors")
    found = Safetensors(tmp_path / "a.safetensors").tensor("a")
    assert found.dtype == kind
    assert torch.equal(found.view(torch.uint8), bytes_of_it)


def test_a_tensor_at_an_odd_place_is_read(tmp_path: Path) -> None:
    header = {
        "a": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [3, 11]},
    }
    path = write(tmp_path / "odd.safetensors", header, b"abc" + struct.pack("<2f", 1.5, -2))
    assert Safetensors(path).tensor("b").tolist() == [1.5, -2.0]


def test_tensors_are_mapped_and_what_is_written_to_them_stays_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    save_file({"a": torch.ones(1 << 20)}, path)
    before = path.read_bytes()
    tracemalloc.start()
    try:
        tensor = Safetensors(path).tensor("a")
        tensor.zero_()
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert path.read_bytes() == before


@pytest.mark.timeout(120)
def test_ten_thousand_mutations_parse_or_are_refused(tmp_path: Path) -> None:
    data = small_file(tmp_path / "small.safetensors")
    parsed, refused = check_mutations(data, tmp_path, 10_000, Safetensors, read_everything)
    assert parsed > 500
    assert refused > 5000


def entry(begin: int = 0, end: int = 4, *, dtype: str = "F32", shape: tuple[int, ...] = (1,)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


HOSTILE: dict[str, tuple[Any, bytes, str]] = {
    "not JSON": (b"\x80\x02pickle", b"", "malformed"),
    "a list": ([1, 2], b"", "malformed"),
    "deeply nested": (b'{"a":' + b"[" * 100_000, b"", "malformed"),
    "unknown dtype": ({"a": entry(dtype="F128")}, bytes(4), "malformed"),
    "unknown field": ({"a": {**entry(), "more": 1}}, bytes(4), "malformed"),
    "field twice": (b'{"a":{"dtype":"F32","dtype":"F32","shape":[1]}}', bytes(4), "malformed"),
    "negative size": ({"a": entry(shape=(-1,))}, bytes(4), "malformed"),
    "fractional size": (b'{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}', bytes(4), "malformed"),
    "one offset": (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4]}}', bytes(4), "malformed"),
    "absurd product": ({"a": entry(shape=(2**62, 2**62))}, bytes(4), "absurd"),
    "absurd beside zero": ({"a": entry(end=0, shape=(0, 2**70))}, b"", "absurd"),
    "wrong number of bytes": ({"a": entry(shape=(2,))}, bytes(4), "another number of bytes"),
    "backward range": ({"a": entry(4, 0)}, bytes(4), "another number of bytes"),
    "beyond the end": ({"a": entry(0, 400, shape=(100,))}, bytes(4), "cut off"),
    "overlap": ({"a": entry(0, 8, shape=(2,)), "b": entry(4, 8)}, bytes(8), "overlap"),
    "gap": ({"a": entry(), "b": entry(8, 12)}, bytes(12), "gaps"),
    "bytes left over": ({"a": entry()}, bytes(9), "behind the last"),
    "name twice": (b'{"a":%b,"a":%b}' % ((json.dumps(entry()).encode(),) * 2), bytes(4), "twice"),
    "half a character": (b'{"\\ud800":' + json.dumps(entry()).encode() + b"}", bytes(4), "valid text"),
    "metadata that is no text": ({"__metadata__": {"a": 1}}, b"", "malformed"),
    "words behind the header": (b"{} {}", b"", "malformed"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_header_is_one_message_that_names_the_file(case: str, tmp_path: Path) -> None:
    header, data, problem = HOSTILE[case]
    path = write(tmp_path / "hostile.safetensors", header, data)
    with pytest.raises(LuhuoError, match=problem) as caught:
        Safetensors(path)
    assert "hostile.safetensors" in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**9, 200])
def test_an_absurd_header_length_is_refused_before_anything_is_read(length: int, tmp_path: Path) -> None:
    path = write(tmp_path / "length.safetensors", {}, bytes(100), length)
    with pytest.raises(LuhuoError, match="cut off") as caught:
        Safetensors(path)
    assert "length.safetensors" in str(caught.value)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    data = small_file(path)
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(LuhuoError) as caught:
            Safetensors(path)
        assert "cut.safetensors" in str(caught.value)


def test_many_tiny_entries_cannot_take_more_memory_than_twice_the_file(tmp_path: Path) -> None:
    header = ",".join(f'"{i:x}":{{"dtype":"U8","shape":[],"data_offsets":[{i},{i + 1}]}}' for i in range(40_000))
    metadata = ",".join(f'"{i:x}":""' for i in range(40_000))
    for number, text in enumerate((header, f'"__metadata__":{{{metadata}}}')):
        path = write(tmp_path / f"{number}.safetensors", f"{{{text}}}".encode(), bytes(40_000 if number == 0 else 0))
        tracemalloc.start()
        try:
            with pytest.raises(LuhuoError, match="more entries than"):
                Safetensors(path)
            assert tracemalloc.get_traced_memory()[1] <= 2 * path.stat().st_size + CONSTANT
        finally:
            tracemalloc.stop()


def test_a_long_text_with_many_escapes_takes_no_memory_until_it_is_asked_for(tmp_path: Path) -> None:
    text = '{"a": "b"}\n' * 100_000
    path = tmp_path / "long.safetensors"
    save_file({"a": torch.ones(1)}, path, {"tags": text})
    tracemalloc.start()
    try:
        file = Safetensors(path)
        assert tracemalloc.get_traced_memory()[1] <= CONSTANT
    finally:
        tracemalloc.stop()
    assert file.metadata["tags"] == text


def test_a_missing_file_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="no such file"):
        Safetensors(tmp_path / "none.safetensors")
