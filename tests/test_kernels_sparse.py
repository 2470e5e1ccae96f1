"""Matrices with two of four values: what is packed comes back, and products are those of the dense matrix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.inference.decode_step import DecodeStep
from luhuo.kernels.native import library
from luhuo.kernels.sparse import dense, is_sparse, pack, product
from luhuo.model.cache import KVCache
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.model.sparse import SparseLinear, keep_sparse

SHAPES = [(48, 64), (37, 100), (16, 520), (5, 4)]


def pruned(rows: int, columns: int, fewer: bool = False) -> Tensor:
    """A matrix in bf16 with the two largest of each four columns; with `fewer`, of some with one or none."""
    whole = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows)).bfloat16()
    fours = whole.view(rows, -1, 4)
    smallest = fours.abs().argsort(-1)[..., :2]
    fours.scatter_(-1, smallest, 0)
    if fewer:
        fours[::3, ::2] = 0
        fours[::2, :, 1] = 0
    return whole


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fewer", [False, True])
def test_a_packed_matrix_is_the_one_it_was_made_of(low_bit_kernels: str, shape: tuple[int, int], fewer: bool) -> None:
    whole = pruned(*shape, fewer)
    packed = pack(whole)
    assert torch.equal(dense(packed, torch.bfloat16), whole)
    assert torch.equal(dense(packed, torch.float32), whole.float())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 5, 11, 16, 40, 600])
def test_products_are_those_of_the_dense_matrix_but_for_the_order_of_sums(
    low_bit_kernels: str, shape: tuple[int, int], count: int
) -> None:
    whole = pruned(*shape)
    x, bias = torch.randn(count, shape[1]).bfloat16().float(), torch.randn(shape[0])
    expected = F.linear(x.double(), whole.double(), bias.double()).float()
    torch.testing.assert_close(product(x, pack(whole), bias), expected, atol=2e-4, rtol=2e-5)
    narrow = product(x.bfloat16().view(1, count, -1), pack(whole))
    assert narrow.dtype == torch.bfloat16 and narrow.shape == (1, count, shape[0])


def test_a_matrix_takes_nine_bits_a_weight() -> None:
    packed = pack(pruned(64, 128))
    assert packed.weight.nbytes * 8 == 9 * 64 * 128


def test_only_matrices_with_two_zeros_in_every_four_columns_are_sparse() -> None:
    whole = pruned(40, 64)
    assert is_sparse(whole) and is_sparse(torch.zeros(3, 8)) and not is_sparse(torch.zeros(3, 6))
    for row in (3, 39):
        spoiled = whole.clone()
        spoiled[row, 4:8] = torch.tensor([1, 0, 2, 3])
        assert not is_sparse(spoiled)


@pytest.mark.skipif(library() is None, reason="no C++ compiler here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_pruned_model_kept_sparse_says_the_same_through_modules_and_compiled_step(dtype: torch.dtype) -> None:
    config = ModelConfig(
        family="llama", vocab_size=96, hidden_size=64, layers=2, heads=4, kv_heads=2, head_dim=16,
        intermediate_size=100, qk_norm="none", qkv_bias=True,
    )  # fmt: skip
    model = initialise(Decoder(config), 0).to(dtype).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("mlp.down.weight"):
            parameter.data.fill_(0.01)
        elif parameter.dim() == 2 and name != "embedding":
            parameter.data = pruned(parameter.shape[0], parameter.shape[1]).to(dtype) / 8
    ids = torch.randint(96, (3, 9), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = model(ids).float()
        assert keep_sparse(model) == 6  # all but two
        assert isinstance(model.blocks[1].mlp.gate_up, SparseLinear)  # type: ignore[union-attr]
        caches = [KVCache(config, 3, 16, dtype) for _ in range(2)]
        found = model(ids, cache=caches[0]).float()
        model(ids, cache=caches[1])
        step = DecodeStep.of(model)
        assert step is not None and step.fits(caches[0])
        next_one = step(ids[:, 0], caches[0]), model(ids[:, :1], cache=caches[1])[:, 0].float()
    largest = float(expected.abs().max())
    torch.testing.assert_close(found, expected, atol=0.03 * largest, rtol=0)  # activations in bf16
    torch.testing.assert_close(*next_one, atol=0.03 * largest, rtol=0)
