"""Weights in FP8 (E4M3): their numbers are those of PyTorch, and products are those of the matrix they stand for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.kernels.low_bit import dense, product, rows_at
from luhuo.kernels.packed import Packed, pack

SHAPES = [(48, 64), (37, 100), (16, 520)]


def made(rows: int, columns: int, group: int | None = None) -> tuple[Packed, Tensor]:
    """A packed matrix, and the one it stands for: weights of all sizes from subnormals to the largest."""
    generator = torch.Generator().manual_seed(rows)
    sizes = torch.logspace(-3, 2.5, columns)
    values = (torch.randn(rows, columns, generator=generator) * sizes).clamp(-448, 448).to(torch.float8_e4m3fn)
    group = group or -(-columns // 8) * 8
    scale = 0.01 + torch.rand(rows, -(-columns // group), generator=generator)
    whole = values.float() * scale[:, torch.arange(columns) // group]
    return pack(values, scale, bits=8, group=group), whole


def test_all_numbers_of_the_format_are_read_as_pytorch_reads_them(low_bit_kernels: str) -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    codes = codes[(codes & 127) != 127]  # not the two NaNs
    values = codes.view(torch.float8_e4m3fn).repeat(16, 1)[:, : len(codes) // 8 * 8]
    packed = pack(values.contiguous(), torch.ones(16, 1), bits=8, group=values.shape[1])
    assert torch.equal(dense(packed, torch.float32), values.float())
    assert torch.equal(dense(packed, torch.bfloat16), values.bfloat16())
    one_by_one = torch.eye(values.shape[1])
    torch.testing.assert_close(product(one_by_one[:16], packed).t(), values[:, :16].float(), atol=0, rtol=0)
    found = torch.cat([product(one_by_one[i : i + 16], packed) for i in range(0, len(one_by_one), 16)])
    assert torch.equal(found.t(), values.float())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("group", [None, 8, 32])
def test_a_packed_matrix_is_the_one_it_was_made_of(
    low_bit_kernels: str, shape: tuple[int, int], group: int | None
) -> None:
    packed, whole = made(*shape, group)
    assert torch.equal(dense(packed, torch.float32), whole)
    assert torch.equal(dense(packed, torch.bfloat16), whole.bfloat16())
    ids = torch.randint(shape[0], (2, 3))
    assert torch.equal(rows_at(packed, ids, torch.float32), whole[ids])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("group", [None, 32])
@pytest.mark.parametrize("count", [1, 2, 5, 11, 16, 200])
def test_products_are_those_of_the_matrix(
    low_bit_kernels: str, shape: tuple[int, int], group: int | None, count: int
) -> None:
    packed, whole = made(*shape, group)
    x, bias = torch.randn(count, shape[1]).bfloat16().float(), torch.randn(shape[0])
    expected = F.linear(x.double(), whole.double(), bias.double())
    size = float(expected.abs().max())
    torch.testing.assert_close(product(x, packed, bias).double(), expected, atol=2e-6 * size, rtol=2e-5)
    narrow = product(x.bfloat16(), packed)
    assert narrow.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.double(), expected - bias, atol=0.01 * size, rtol=0.02)
