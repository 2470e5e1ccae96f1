"""Products in 8-bit floats: their rounding is bounded, gradients pass straight through it, and models still learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from luhuo.kernels import fp8
from luhuo.model.config import ModelConfig, MoEConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.model.layers import Linear
from luhuo.train.eight_bit_products import multiply_in_fp8
from luhuo.train.objective import CausalLM

SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "layers": 2,
    "heads": 2,
    "kv_heads": 2,
    "head_dim": 16,
    "intermediate_size": 64,
}


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("kind", "digits"), [(fp8.FORWARD, 3), (fp8.BACKWARD, 2)])
@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20])
def test_rounding_is_within_half_a_unit_of_the_last_digit(kind: torch.dtype, digits: int, size: float) -> None:
    x = numbers(64, 64) * size
    rounded, scale = fp8.quantise(x, kind)
    off = (rounded.float() * scale - x).abs()
    least = torch.finfo(kind).smallest_normal * scale
    assert rounded.dtype == kind
    assert bool((off <= torch.maximum(x.abs(), least) * 2.0 ** -(digits + 1) * 1.001).all())


def test_the_largest_number_is_kept_whatever_its_size() -> None:
    for size in (1e-9, 3.0, 1e9):
        rounded, scale = fp8.quantise(torch.tensor([size, -size / 2]), fp8.FORWARD)
        torch.testing.assert_close(rounded.float() * scale, torch.tensor([size, -size / 2]))


def test_zeros_stay_zeros() -> None:
    rounded, scale = fp8.quantise(torch.zeros(16), fp8.BACKWARD)
    assert bool(torch.isfinite(scale)) and bool((rounded.float() == 0).all())


def test_what_is_not_finite_is_seen_in_the_result() -> None:
    x, weight = numbers(16, 16), numbers(16, 16, seed=1)
    x[3, 3] = torch.inf
    assert not bool(torch.isfinite(fp8.linear(x, weight)).all())


def test_a_product_is_off_by_no_more_than_the_rounding_of_its_parts() -> None:
    x, weight = numbers(64, 128), numbers(32, 128, seed=1)
    bound = 2 * 2.0**-4 * 1.1 * (x.abs() @ weight.abs().t())
    assert bool(((fp8.linear(x, weight) - x @ weight.t()).abs() <= bound).all())


def test_gradients_are_those_of_the_rounded_parts() -> None:
    x, weight = numbers(4, 16, 32).requires_grad_(), numbers(48, 32, seed=1).requires_grad_()
    slope = numbers(4, 16, 48, seed=2)
    fp8.linear(x, weight).backward(slope)
    seen = [
        rounded.float() * scale
        for rounded, scale in (
            fp8.quantise(x.detach().flatten(0, 1), fp8.FORWARD),
            fp8.quantise(weight, fp8.FORWARD),
            fp8.quantise(slope.flatten(0, 1), fp8.BACKWARD),
        )
    ]
    assert x.grad is not None and weight.grad is not None
    torch.testing.assert_close(x.grad.flatten(0, 1), seen[2] @ seen[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(weight.grad, seen[2].t() @ seen[0], atol=1e-4, rtol=1e-4)


def test_the_result_has_the_activations_format_and_the_gradient_the_weights() -> None:
    x, weight = numbers(16, 32).bfloat16().requires_grad_(), numbers(16, 32, seed=1).requires_grad_()
    found = fp8.linear(x, weight)
    found.sum().backward()
    assert x.grad is not None and weight.grad is not None
    assert (found.dtype, x.grad.dtype, weight.grad.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)


def test_odd_sizes_are_multiplied_as_before() -> None:
    layer = Linear(32, 16)
    torch.nn.init.normal_(layer.weight)
    plain = {rows: layer(numbers(rows, 32)) for rows in (15, 16)}
    layer.fp8 = True
    assert torch.equal(layer(numbers(15, 32)), plain[15]) and not torch.equal(layer(numbers(16, 32)), plain[16])
    assert torch.equal(layer.eval()(numbers(16, 32)), plain[16])


def test_matrices_of_blocks_are_taken_and_nothing_else() -> None:
    moe = MoEConfig(experts=4, active=2, intermediate_size=32, shared_size=32, shared_gate=True)
    model = initialise(Decoder(ModelConfig(**SMALL | {"tie_embeddings": False, "moe": moe})), 0)
    multiply_in_fp8(model)
    taken = {name for name, module in model.named_modules() if getattr(module, "fp8", False)}
    parts = ("attention.qkv", "attention.out", "mlp.shared.gate_up", "mlp.shared.down")
    assert taken == {f"blocks.{layer}.{part}" for layer in (0, 1) for part in parts}


def learned(fp8_too: bool) -> float:
    """Mean loss of the last ten of eighty steps on a language in which each word tells the next."""
    model = initialise(Decoder(ModelConfig(**SMALL)), 0).train().compute_in(torch.bfloat16)
    if fp8_too:
        assert multiply_in_fp8(model) == 8
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator, losses = torch.Generator().manual_seed(5), []
    for _ in range(80):
        ids = torch.randint(0, 64, (4, 33), generator=generator)
        for at in range(1, 33):
            ids[:, at] = torch.where(ids[:, at] % 8 > 0, (5 * ids[:, at - 1] + 7) % 64, ids[:, at])
        loss, weight, _ = CausalLM().loss(model, {"ids": ids})
        (loss / weight).backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append((loss / weight).item())
    assert losses[0] > 4
    return sum(losses[-10:]) / 10


def test_a_model_learns_as_well_as_in_bf16() -> None:
    assert learned(True) == pytest.approx(learned(False), abs=0.1)
