"""Matrices in 8 and 4 bits: what is packed comes back, and products are those of the matrix that was packed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.kernels import low_bit, torch_int4
from luhuo.kernels.low_bit import dense, describe_dense, product, quantise, rows_at
from luhuo.kernels.native import library
from luhuo.kernels.packed import Bits, Packed, integers, pack

SHAPES = [(48, 64), (37, 100), (16, 520)]
KINDS: list[tuple[Bits, int, bool, bool]] = [
    (4, 32, False, False),
    (4, 64, True, False),
    (4, 32, True, True),
    (8, 32, False, False),
    (8, 520, False, False),
    (8, 64, True, True),
]
"""Bits, group, whether there are lows, whether columns were moved."""


def made(rows: int, columns: int, kind: tuple[Bits, int, bool, bool]) -> tuple[Packed, Tensor]:
    """A packed matrix and, written out, the one it stands for."""
    bits, group, lows, moved = kind
    torch.manual_seed(rows)
    q, scale = quantise(torch.randn(rows, columns), bits, group)
    low = torch.randn(scale.shape).half() if lows else None
    q = q + 8 if bits == 4 and lows else q
    order = torch.randperm(columns).int() if moved else None
    groups = torch.arange(columns) // group
    whole = q.float() * scale.float()[:, groups]
    whole = whole if low is None else whole + low.float()[:, groups]
    if order is not None:
        whole = torch.empty_like(whole).index_copy_(1, order.long(), whole)
    found = pack(q, scale, low, bits=bits, group=group, order=order)
    assert torch.equal(integers(found), q)
    return found, whole


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_packed_matrix_is_the_one_it_was_made_of(low_bit_kernels: str, shape: tuple[int, int], kind: tuple) -> None:
    packed, whole = made(*shape, kind)
    assert torch.equal(dense(packed, torch.float32), whole)
    assert torch.equal(dense(packed, torch.bfloat16), whole.bfloat16())
    ids = torch.randint(shape[0], (2, 3))
    assert torch.equal(rows_at(packed, ids, torch.float32), whole[ids])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 5, 11, 16, 40])
def test_products_are_those_of_the_matrix(
    low_bit_kernels: str, shape: tuple[int, int], kind: tuple, count: int
) -> None:
    packed, whole = made(*shape, kind)
    x, bias = torch.randn(count, shape[1]).bfloat16().float(), torch.randn(shape[0])
    expected = F.linear(x.double(), whole.double(), bias.double()).float()
    torch.testing.assert_close(product(x, packed, bias), expected, atol=2e-4, rtol=2e-5)
    narrow = product(x.bfloat16().view(1, count, -1), packed)
    assert narrow.dtype == torch.bfloat16 and narrow.shape == (1, count, shape[0])
    torch.testing.assert_close(narrow[0].float(), expected - bias, atol=0.3, rtol=0.02)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind[1] in torch_int4.GROUPS])
@pytest.mark.parametrize("count", [1, 3, 16])
def test_torchs_own_routine_multiplies_in_bf16_as_exactly_as_a_dense_matrix(kind: tuple, count: int) -> None:
    packed, whole = made(37, 128, kind)
    x = torch.randn(count, 128).bfloat16()
    assert torch_int4.fits(x, packed) and not torch_int4.fits(x.float(), packed)
    expected = F.linear(x.double(), whole.double())
    errors = [
        (found.double() - expected).abs().max()
        for found in (torch_int4.product(x, packed), F.linear(x, whole.bfloat16()))
    ]
    assert errors[0] < 2 * errors[1] and errors[0] < 0.01 * expected.abs().max()


def test_torchs_own_routine_sees_that_a_matrix_was_written_to() -> None:
    packed, _ = made(32, 64, KINDS[0])
    x = torch.randn(1, 64).bfloat16()
    before = torch_int4.product(x, packed)
    packed.scale.mul_(2)
    assert torch.equal(torch_int4.product(x, packed), 2 * before)


@pytest.mark.skipif(library() is None, reason="no C++ compiler here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 3, 8])
def test_dense_matrices_go_through_the_same_kernel(dtype: torch.dtype, shape: tuple[int, int], count: int) -> None:
    weight, x = torch.randn(shape).to(dtype), torch.randn(count, shape[1]).to(dtype).float()
    bias, y = torch.randn(shape[0]).to(dtype), torch.empty(count, shape[0])
    low_bit.call("matrix_product", describe_dense(weight, bias), x, y, count)
    torch.testing.assert_close(y, F.linear(x, weight.float(), bias.float()), atol=1e-4, rtol=1e-5)


@pytest.mark.skipif(library() is None, reason="no compiled kernels here")
@pytest.mark.parametrize("shape", [(48, 64), (37, 100), (21, 530)])
def test_a_row_in_fp32_is_the_same_bit_by_bit_beside_any_others(shape: tuple[int, int]) -> None:
    weight, x = torch.randn(shape), torch.randn(13, shape[1])
    matrix = describe_dense(weight)

    def times(rows: Tensor) -> Tensor:
        y = torch.empty(len(rows), shape[0])
        low_bit.call("matrix_product", matrix, rows.contiguous(), y, len(rows))
        return y

    alone = torch.cat([times(row[None]) for row in x])
    for count in range(2, 14):
        assert torch.equal(times(x[:count]), alone[:count])
    torch.testing.assert_close(alone, x @ weight.T, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("bits", "group"), [(4, 32), (8, 64)])
def test_rounding_errs_by_half_a_step_at_most_and_never_cuts_off_8_bits(bits: Bits, group: int) -> None:
    weight = torch.randn(32, 256) * torch.logspace(-6, 3, 32)[:, None]
    q, scale = quantise(weight, bits, group)
    step = scale.float().repeat_interleave(group, 1)
    error = (q.float() * step - weight).abs() / step
    assert error.max() <= 0.501 if bits == 8 else error[(q > -8) & (q < 7)].max() <= 0.501


def test_four_bits_lose_less_than_rounding_to_the_largest_of_each_group() -> None:
    weight = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    q, scale = quantise(weight, 4, 32)
    groups = weight.view(64, -1, 32)
    plain = groups.abs().amax(-1, keepdim=True) / 7
    simple = (groups / plain).round().clamp(-8, 7) * plain
    ours = (q.view(64, -1, 32).float() * scale.float()[..., None] - groups).square().mean()
    assert ours < 0.85 * (simple - groups).square().mean()


def test_a_matrix_of_zeros_stays_one() -> None:
    q, scale = quantise(torch.zeros(3, 40), 4, 32)
    assert not q.any() and torch.isfinite(scale).all()
