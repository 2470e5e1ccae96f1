"""GGUF block formats: equal to the reference implementation, bit for bit."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch

from luhuo.core.errors import LuhuoError
from luhuo.files.gguf_types import TensorType
from luhuo.kernels import gguf_dequantise, gguf_quantise

READ = sorted(set(gguf_dequantise.FORMATS) - {TensorType.F64}, key=lambda kind: kind.name)
WRITTEN = sorted(gguf_quantise.FORMATS, key=lambda kind: kind.name)
HALVES = {
    TensorType.Q8_0: (0,), TensorType.Q4_0: (0,), TensorType.Q4_1: (0, 2), TensorType.Q5_0: (0,),
    TensorType.Q5_1: (0, 2), TensorType.Q2_K: (80, 82), TensorType.Q3_K: (108,), TensorType.Q4_K: (0, 2),
    TensorType.Q5_K: (0, 2), TensorType.Q6_K: (208,), TensorType.IQ4_NL: (0,), TensorType.IQ4_XS: (0,),
}  # fmt: skip
"""Where the half-precision scales of a block lie."""


def reference_type(kind: TensorType) -> gguf.GGMLQuantizationType:
    return gguf.GGMLQuantizationType(int(kind))


def random_blocks(kind: TensorType, count: int, scales: np.ndarray) -> np.ndarray:
    """Random bytes, with the half-precision scales drawn from `scales`."""
    random = np.random.default_rng(int(kind))
    blocks = random.integers(0, 256, (count, kind.bytes), dtype=np.uint8)
    for at in HALVES.get(kind, ()):
        blocks[:, at : at + 2] = random.choice(scales, count).astype(np.float16)[:, None].view(np.uint8)
    return blocks


@pytest.mark.parametrize("kind", READ, ids=lambda kind: kind.name)
def test_every_format_is_read_as_the_reference_reads_it(kind: TensorType) -> None:
    smallest = 2.0**-24
    scales = np.array([0, smallest, -smallest, 6.1e-5, 1e-3, -0.37, 1, 511.5, 65504, -65504])
    blocks = random_blocks(kind, 600, scales)
    if kind in (TensorType.F32, TensorType.F16, TensorType.BF16):
        numbers = np.random.default_rng(1).standard_normal(600, np.float32) * 10.0 ** np.arange(-30, 30).repeat(10)
        blocks = gguf.quantize(numbers.astype(np.float32)[:, None].clip(-6e4, 6e4), reference_type(kind))
        blocks = blocks.view(np.uint8)
    with np.errstate(over="ignore"):
        expected = gguf.dequantize(blocks, reference_type(kind)).reshape(-1)
    ours = gguf_dequantise.dequantise(blocks.reshape(-1), kind, (600 * kind.weights,))
    assert torch.equal(ours, torch.from_numpy(expected.copy()))


def test_every_bit_pattern_of_a_scale_is_read_as_the_reference_reads_it() -> None:
    kind = TensorType.Q4_1
    blocks = random_blocks(kind, 65536, np.ones(1))
    blocks[:, 0:2] = np.arange(65536, dtype=np.uint16)[:, None].view(np.uint8)
    with np.errstate(invalid="ignore"):
        expected = gguf.dequantize(blocks, reference_type(kind)).reshape(-1)
    ours = gguf_dequantise.dequantise(blocks.reshape(-1), kind, (65536 * 32,)).numpy()
    np.testing.assert_array_equal(ours, expected)


def test_a_tensor_larger_than_a_piece_is_read_into_place_in_another_dtype() -> None:
    kind, rows, width = TensorType.Q8_0, 70, 8192
    assert rows * width > 2 * gguf_dequantise.PIECE
    blocks = random_blocks(kind, rows * width // 32, np.array([0.01, -0.3])).reshape(-1)
    out = torch.empty(rows, width, dtype=torch.bfloat16)
    result = gguf_dequantise.dequantise(blocks, kind, (rows, width), out=out)
    assert result is out
    assert torch.equal(out, gguf_dequantise.dequantise(blocks, kind, (rows, width)).bfloat16())


def test_a_format_that_is_not_read_says_which_are() -> None:
    with pytest.raises(LuhuoError, match="IQ2_XXS") as caught:
        gguf_dequantise.dequantise(np.zeros(66, np.uint8), TensorType.IQ2_XXS, (256,))
    assert "Q4_K" in str(caught.value)


def numbers_to_write() -> torch.Tensor:
    """Rows of ordinary weights, of ties and exact halves, tiny, large, constant and zero ones."""
    torch.manual_seed(0)
    rows = torch.randn(64, 256)
    rows[:16] *= torch.logspace(-9, 4, 16)[:, None]
    rows[16] = 0
    rows[17] = 0.25
    rows[18] = torch.arange(256) - 128.0
    rows[19] = (torch.arange(256) % 2) * 2 - 1.0  # ties of the largest size, both signs
    rows[20] = torch.arange(256) / 2 - 63.5  # with 127 as the largest: exact halves in Q8_0
    rows[21] = -rows[20].flip(0)
    rows[22, ::2] = -0.0
    rows[23:30] = rows[23:30].bfloat16().float()
    rows[30] = torch.rand(256) * 1e-7
    return rows


@pytest.mark.parametrize("kind", WRITTEN, ids=lambda kind: kind.name)
def test_every_format_is_written_bit_for_bit_as_the_reference_writes_it(kind: TensorType) -> None:
    rows = numbers_to_write()
    expected = gguf.quantize(rows.numpy(), reference_type(kind)).view(np.uint8).reshape(-1)
    ours = torch.cat(list(gguf_quantise.quantise(rows, kind)))
    assert torch.equal(ours, torch.from_numpy(expected.copy()))


@pytest.mark.parametrize("kind", [TensorType.Q8_0, TensorType.Q4_0, TensorType.Q4_1], ids=lambda kind: kind.name)
def test_half_a_million_random_weights_are_rounded_as_the_reference_rounds_them(kind: TensorType) -> None:
    torch.manual_seed(int(kind))
    rows = torch.randn(2048, 256) * torch.rand(2048, 1)
    expected = gguf.quantize(rows.numpy(), reference_type(kind)).reshape(-1)
    assert torch.equal(torch.cat(list(gguf_quantise.quantise(rows, kind))), torch.from_numpy(expected.copy()))


@pytest.mark.parametrize("kind", [TensorType.Q8_0, TensorType.Q4_0, TensorType.Q4_1], ids=lambda kind: kind.name)
def test_what_is_read_from_a_block_is_within_a_step_of_what_was_written(kind: TensorType) -> None:
    torch.manual_seed(3)
    rows = torch.randn(50, 256)
    data = torch.cat(list(gguf_quantise.quantise(rows, kind)))
    back = gguf_dequantise.dequantise(data, kind, (50, 256))
    blocks = rows.view(-1, 32)
    span = {TensorType.Q8_0: 1 / 127, TensorType.Q4_0: 1 / 8, TensorType.Q4_1: 2 / 15}[kind]
    step = blocks.abs().amax(1, keepdim=True) * span
    assert ((back.view(-1, 32) - blocks).abs() <= step * 1.01).all()


def test_pieces_follow_one_another_without_a_seam() -> None:
    rows = torch.randn(5, gguf_quantise.PIECE // 4)
    pieces = list(gguf_quantise.quantise(rows, TensorType.Q4_0))
    assert len(pieces) == 2
    whole = torch.cat([torch.cat(list(gguf_quantise.quantise(row, TensorType.Q4_0))) for row in rows])
    assert torch.equal(torch.cat(pieces), whole)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(LuhuoError) as caught:
        list(gguf_quantise.quantise(torch.tensor([bad] * 32), TensorType.Q8_0, "blk.0.attn_q.weight"))
    assert "blk.0.attn_q.weight" in str(caught.value)


@pytest.mark.parametrize("kind", [TensorType.F16, TensorType.Q8_0, TensorType.Q4_1], ids=lambda kind: kind.name)
def test_a_number_too_large_for_half_precision_is_refused_with_the_way_out(kind: TensorType) -> None:
    with pytest.raises(LuhuoError, match="half precision") as caught:
        list(gguf_quantise.quantise(torch.tensor([1e9] + [0.0] * 31), kind, "output.weight"))
    assert "BF16" in str(caught.value)
    assert "output.weight" in str(caught.value)


def test_a_scale_too_small_for_half_precision_gives_zeros() -> None:
    rows = torch.full((1, 32), 1e-41)
    for kind in (TensorType.Q8_0, TensorType.Q4_0):
        data = torch.cat(list(gguf_quantise.quantise(rows, kind)))
        assert not gguf_dequantise.dequantise(data, kind, (1, 32)).any()
