"""Products of 8-bit weights with 8-bit activations: exact sums, one scaling, the same for a token in any company."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.inference.decode_step import DecodeStep
from luhuo.kernels import eight_bit as kernels
from luhuo.kernels.eight_bit import EightBit, dense, describe, eight_bit, integer_product, product, round_rows
from luhuo.kernels.low_bit import call
from luhuo.kernels.native import library
from luhuo.model.cache import KVCache
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.eight_bit import EightBitLinear
from luhuo.model.initialise import initialise
from luhuo.model.layers import Linear

SHAPES = [(48, 64), (37, 100), (16, 520), (5, 7)]
needs_compiler = pytest.mark.skipif(library() is None, reason="no C++ compiler here")


def made(rows: int, columns: int, *, fixed: bool = False, threshold: float | None = None) -> tuple[EightBit, Tensor]:
    """A matrix, and the floats it stands for."""
    whole = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows))
    scale = whole.abs().amax(1, keepdim=True) / 127
    q = (whole / scale).round().to(torch.int8)
    step = torch.tensor([0.02]) if fixed else None
    return eight_bit(q, scale, input_scale=step, threshold=threshold), q.float() * scale


def by_hand(x: Tensor, matrix: EightBit) -> Tensor:
    """The definition, in integers of 64 bits and floats of 64 bits."""
    large = x.abs() > (matrix.threshold or float("inf"))
    weight, scale = matrix.weight.double(), matrix.scale.double()
    apart = (x * large).double() @ weight.t() * scale
    x = x * ~large
    step = x.abs().amax(1, keepdim=True) / 127 if matrix.input_scale is None else matrix.input_scale
    q = (x / step).round().clamp(-128, 127).double()
    return q @ weight.t() * step.double() * scale + apart


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [{}, {"fixed": True}, {"threshold": 1.5}])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_products_are_exact_sums_of_integers_scaled_once(shape: tuple[int, int], kind: dict, count: int) -> None:
    matrix, stands = made(*shape, **kind)
    assert torch.equal(dense(matrix, torch.float32), stands)
    x, bias = torch.randn(count, shape[1]), torch.randn(shape[0])
    expected = by_hand(x, matrix) + bias
    torch.testing.assert_close(product(x, matrix, bias).double(), expected, atol=1e-5, rtol=1e-6)
    narrow = product(x.bfloat16().view(1, count, -1), matrix)
    assert narrow.dtype == torch.bfloat16 and narrow.shape == (1, count, shape[0])


@pytest.mark.parametrize("shape", [*SHAPES, (8, 3000)])
def test_sums_without_the_routine_are_the_same_to_the_bit(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(-128, 128, (9, shape[1]), dtype=torch.int8, generator=generator)
    b = torch.randint(-127, 128, shape, dtype=torch.int8, generator=generator)
    largest = (torch.full_like(a, -128), torch.full_like(b, -127))
    found = [integer_product(a, b), integer_product(*largest)]
    monkeypatch.setattr(kernels, "_routine_is_exact", lambda: False)
    plain = [integer_product(a, b), integer_product(*largest)]
    exact = [a.long() @ b.long().t(), largest[0].long() @ largest[1].long().t()]
    for ours, theirs, known in zip(found, plain, exact, strict=True):
        assert torch.equal(ours.long(), known) and torch.equal(theirs.long(), known)


@needs_compiler
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [{}, {"fixed": True}])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 16])
def test_the_compiled_loop_gives_the_same_bits(shape: tuple[int, int], kind: dict, count: int) -> None:
    matrix, _ = made(*shape, **kind)
    x, y = 3 * torch.randn(count, shape[1]), torch.empty(count, shape[0])
    x[0] = 0
    call("matrix_product", describe(matrix), x, y, count)
    assert torch.equal(y, product(x, matrix))


@needs_compiler
def test_the_compiled_loop_multiplies_outliers_in_higher_precision() -> None:
    matrix, _ = made(37, 100, threshold=6.0)
    x, y, bias = torch.randn(6, 100), torch.empty(6, 37), torch.randn(37)
    x[:5, 10:15] *= 100
    call("matrix_product", describe(matrix, bias), x, y, 6)
    torch.testing.assert_close(y, product(x, matrix, bias), atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(y.double(), by_hand(x, matrix) + bias, atol=1e-3, rtol=1e-5)


def test_a_token_is_rounded_alone_so_that_company_changes_nothing() -> None:
    x = torch.randn(40, 64) * torch.logspace(-3, 3, 40)[:, None]
    for threshold in (None, 6.0):
        matrix, _ = made(48, 64, threshold=threshold)
        whole = product(x, matrix)
        for row in (0, 7, 20, 39):
            assert torch.equal(product(x[row : row + 1], matrix)[0], whole[row])
    q, scale = round_rows(x)
    assert (q.abs().amax(1) == 127).all() and scale.shape == (40, 1)
    assert not product(torch.zeros(2, 64), matrix).any()


def test_planted_outliers_cost_nothing_where_they_are_multiplied_unrounded() -> None:
    matrix, stands = made(48, 64, threshold=6.0)
    x = torch.randn(32, 64).clamp(-5, 5)
    x[:, [3, 40]] = 300 * torch.randn(32, 2)
    plain = replace(matrix, threshold=None)
    with_outliers, without = ((product(x, m) - F.linear(x, stands)).square().mean() for m in (matrix, plain))
    assert with_outliers < without / 100


def in_eight_bits(model: Decoder, *, fixed: bool = False, threshold: float | None = None) -> Decoder:
    generator = torch.Generator().manual_seed(1)
    for name, module in list(model.named_modules()):
        if type(module) is Linear and name.startswith("blocks."):
            whole = torch.randn(module.weight.shape, generator=generator) * module.weight.shape[1] ** -0.5
            scale = whole.abs().amax(1, keepdim=True) / 127
            step = torch.tensor(0.05) if fixed else None
            matrix = eight_bit((whole / scale).round(), scale, input_scale=step, threshold=threshold)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, EightBitLinear(matrix, module.bias))
    return model


@needs_compiler
@pytest.mark.parametrize("changes", [{}, {"fixed": True}, {"threshold": 1.0}])
def test_the_compiled_step_gives_what_the_modules_give(changes: dict[str, Any]) -> None:
    config = ModelConfig(
        family="llama", vocab_size=96, hidden_size=64, layers=2, heads=4, kv_heads=2, head_dim=16,
        intermediate_size=100, qk_norm="none", qkv_bias=True, mlp_bias=True,
    )  # fmt: skip
    model = in_eight_bits(initialise(Decoder(config), 0).eval(), **changes)
    step = DecodeStep.of(model)
    assert step is not None
    ids = torch.randint(96, (3, 9), generator=torch.Generator().manual_seed(3))
    caches = [KVCache(config, 3, 16) for _ in range(2)]
    with torch.inference_mode():
        for cache in caches:
            model(ids, cache=cache)
        assert step.fits(caches[0])
        found, expected = step(ids[:, 0], caches[0]), model(ids[:, :1], cache=caches[1])[:, 0]
    # A last digit may round another way where sums before it were made in another order.
    torch.testing.assert_close(found, expected, atol=0.02 * float(expected.abs().max()), rtol=0)


def test_gradients_pass_as_if_nothing_was_rounded() -> None:
    matrix, stands = made(16, 520)
    module, x = EightBitLinear(matrix), torch.randn(4, 520, requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, stands.sum(0).expand(4, -1), atol=1e-4, rtol=1e-5)
