"""A GGUF file that was damaged, or made to do damage, is an error with a message, and nothing else."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from luhuo.core.errors import LuhuoError
from luhuo.files.gguf import GGUF
from luhuo.files.gguf_types import TensorType
from luhuo.files.gguf_write import TensorPlan, Typed, ValueType, write_gguf
from luhuo.kernels.gguf_dequantise import dequantise
from luhuo.kernels.gguf_quantise import quantise
from tests.fuzz import CONSTANT, check_mutations


def small_file(path: Path) -> bytes:
    torch.manual_seed(0)
    tensors = []
    for name, shape, kind in [
        ("token_embd.weight", (6, 32), TensorType.Q8_0),
        ("blk.0.attn_norm.weight", (32,), TensorType.F32),
        ("blk.0.attn_q.weight", (4, 32), TensorType.Q4_1),
        ("blk.0.ffn_up.weight", (2, 3, 32), TensorType.F16),
    ]:
        tensor = torch.randn(shape)
        pieces = [piece.numpy() for piece in quantise(tensor, kind)]
        tensors.append(TensorPlan(name, shape, kind, lambda pieces=pieces: pieces))
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.rope.freq_base": 10_000.0,
        "tokenizer.ggml.tokens": ["<s>", "炉", "火", "a", "b", ""],
        "tokenizer.ggml.scores": [0.0, -1.0, -2.0, -3.0, -4.0, -5.0],
        "tokenizer.ggml.add_bos_token": True,
        "nested": Typed(ValueType.ARRAY, [[1, 2], [3]]),
        "wide": Typed(ValueType.UINT64, 2**40),
    }
    write_gguf(path, metadata, tensors)
    return path.read_bytes()


def read_everything(file: object) -> None:
    assert isinstance(file, GGUF)
    for key in file.metadata:
        try:
            file.metadata[key]
        except LuhuoError as error:
            assert key in str(error)
    for name, info in file.tensors.items():
        try:
            values = dequantise(file.data(name), info.kind, info.shape)
        except LuhuoError as error:
            assert info.kind.name in str(error)
        else:
            assert values.shape == info.shape


@pytest.mark.timeout(120)
def test_ten_thousand_mutations_parse_or_are_refused(tmp_path: Path) -> None:
    data = small_file(tmp_path / "small.gguf")
    parsed, refused = check_mutations(data, tmp_path, 10_000, GGUF, read_everything)
    assert parsed > 500
    assert refused > 5000


def entry(name: str, sizes: tuple[int, ...] = (), kind: int = 0, offset: int = 0) -> bytes:
    text = name.encode()
    head = struct.pack("<Q", len(text)) + text + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
    return head + struct.pack("<IQ", kind, offset)


def key(name: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + value


def container(tensors: list[bytes], keys: list[bytes], data: int = 0, *, version: int = 3) -> bytes:
    body = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys)) + b"".join(keys) + b"".join(tensors)
    return body + bytes(-len(body) % 32) + bytes(data)


NESTED = struct.pack("<IQ", 9, 1) * 5 + struct.pack("<IQ", 0, 0)
HOSTILE = {
    "empty": (b"", "cannot be read"),
    "another format": (b"PK\3\4" + bytes(100), "not a GGUF"),
    "version 1": (container([], [], version=1), "version"),
    "version 4": (container([], [], version=4), "version"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "header cut off": (container([], [])[:12], "cut off"),
    "more keys than bytes": (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "more entries"),
    "more tensors than bytes": (b"GGUF" + struct.pack("<IQQ", 3, 2**64 - 1, 0), "more entries"),
    "key longer than the file": (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 60_000) + bytes(40), "cut off"),
    "key that is no ASCII": (container([], [key("é", 0, b"1")[:8] + b"\xff" * 30]), "not valid text"),
    "string longer than the file": (container([], [key("a", 8, struct.pack("<Q", 2**63))], 64), "cut off"),
    "array longer than the file": (container([], [key("a", 9, struct.pack("<IQ", 4, 2**62))], 64), "cut off"),
    "strings beyond the file": (container([], [key("a", 9, struct.pack("<IQ", 8, 2**61))], 64), "cut off"),
    "arrays nested too deeply": (container([], [key("a", 9, NESTED)], 64), "nested"),
    "unknown value type": (container([], [key("a", 13, bytes(8))]), "value"),
    "key twice": (container([], [key("a", 0, b"1"), key("a", 0, b"2")]), "twice"),
    "tensor twice": (container([entry("t", (1,)), entry("t", (1,), offset=32)], [], 64), "twice"),
    "alignment of zero": (container([], [key("general.alignment", 4, bytes(4))]), "power of two"),
    "alignment as text": (container([], [key("general.alignment", 8, bytes(8))]), "power of two"),
    "unaligned tensor": (container([entry("t", (1,), offset=4)], [], 64), "not aligned"),
    "five dimensions": (container([entry("t", (1, 1, 1, 1, 1))], [], 64), "dimensions"),
    "a product beyond 64 bits": (container([entry("t", (2**63, 2**63, 2**63))], [], 64), "beyond the end"),
    "sizes whose product wraps to zero": (container([entry("t", (2**32, 2**32))], [], 64), "beyond the end"),
    "a dimension of zero": (container([entry("t", (2**63, 0))], [], 64), "zero"),
    "unknown tensor type": (container([entry("t", (1,), kind=4)], [], 64), "Unknown type"),
    "a row of half a block": (container([entry("t", (33,), kind=8)], [], 64), "blocks"),
    "tensor beyond the end": (container([entry("t", (64,))], [], 64), "beyond the end"),
    "offset beyond the end": (container([entry("t", (1,), offset=2**63)], [], 64), "beyond the end"),
    "overlapping tensors": (container([entry("t", (64,)), entry("u", (8,), offset=32)], [], 256), "overlap"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_one_message_that_names_it(case: str, tmp_path: Path) -> None:
    data, problem = HOSTILE[case]
    path = tmp_path / "hostile.gguf"
    path.write_bytes(data)
    with pytest.raises(LuhuoError, match=problem) as caught:
        GGUF(path)
    assert "hostile.gguf" in str(caught.value)
    assert caught.value.fix


def test_many_tiny_entries_cannot_take_more_memory_than_twice_the_file(tmp_path: Path) -> None:
    path = tmp_path / "many.gguf"
    path.write_bytes(container([], [key(f"{i:x}", 0, b"1") for i in range(30_000)]))
    tracemalloc.start()
    try:
        with pytest.raises(LuhuoError, match="more entries than its size"):
            GGUF(path)
        assert tracemalloc.get_traced_memory()[1] <= 2 * path.stat().st_size + CONSTANT
    finally:
        tracemalloc.stop()


def test_a_file_of_nothing_but_long_arrays_is_parsed_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "arrays.gguf"
    tokens = [f"t{i}" for i in range(60_000)]
    write_gguf(path, {"tokens": tokens, "emoji": "a" * 500_000 + "😀"}, [])
    tracemalloc.start()
    try:
        file = GGUF(path)
        assert tracemalloc.get_traced_memory()[1] <= CONSTANT
    finally:
        tracemalloc.stop()
    assert file.metadata["tokens"] == tokens


def test_a_string_that_is_no_text_is_refused_when_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "text.gguf"
    path.write_bytes(container([], [key("good", 0, b"\7"), key("bad", 8, struct.pack("<Q", 2) + b"\xff\xfe")]))
    file = GGUF(path)
    assert file.metadata["good"] == 7
    with pytest.raises(LuhuoError, match="not valid text") as caught:
        file.metadata["bad"]
    assert "bad" in str(caught.value)


def test_every_length_of_a_cut_file_is_refused_or_complete(tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    data = small_file(path)
    end = max(info.offset + info.bytes for info in GGUF(path).tensors.values())
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        if length >= end:
            read_everything(GGUF(path))
        else:
            with pytest.raises(LuhuoError):
                GGUF(path)


def test_what_is_written_to_the_data_stays_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "private.gguf"
    data = small_file(path)
    GGUF(path).data("blk.0.attn_norm.weight")[:] = np.uint8(0)
    assert path.read_bytes() == data
