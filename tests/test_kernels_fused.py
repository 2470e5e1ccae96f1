"""The compiled kernels against plain arithmetic in fp32, and what happens without them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.kernels import fused
from luhuo.kernels.native import library, why_not
from luhuo.train.cross_entropy import linear_cross_entropy
from tests.fused_cases import ABSENT, SHAPES, apart, gradients, library_is_there, step_in_pytorch

compiled = pytest.mark.skipif(library() is None, reason=f"no compiled kernels here: {why_not()}")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def near(found: Tensor, wanted: Tensor, share: float = 0.01) -> None:
    """Within rounding to bf16 of what fp32 gives."""
    wanted = wanted.float()
    assert (found.float() - wanted).norm() <= share * wanted.norm()


@compiled
@pytest.mark.parametrize("shape", [(3, 5, 64), (1, 576), (7, 33)])
def test_rms_norm_and_its_gradients_are_those_of_fp32(shape: tuple[int, ...]) -> None:
    x, slope, weight = random(*shape), random(*shape, seed=1), torch.randn(shape[-1]) + 1
    y, scale = fused.rms_norm(x, weight, 1e-5)
    of_x, of_weight = fused.rms_norm_backward(slope, x, weight, scale)
    wide, factor = x.float().requires_grad_(), weight.clone().requires_grad_()
    wanted = F.rms_norm(wide, (shape[-1],), factor, 1e-5)
    wanted.backward(slope.float())
    near(y, wanted.detach())
    near(of_x, wide.grad)  # type: ignore[arg-type]
    near(of_weight, factor.grad)  # type: ignore[arg-type]


@compiled
def test_swiglu_and_its_gradient_are_those_of_fp32() -> None:
    both, slope = random(9, 70) * 3, random(9, 35, seed=1)
    wide = both.float().requires_grad_()
    gate, up = wide.chunk(2, -1)
    wanted = F.silu(gate) * up
    wanted.backward(slope.float())
    near(fused.swiglu(both), wanted.detach())
    near(fused.swiglu_backward(slope, both), wide.grad)  # type: ignore[arg-type]


@compiled
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_cross_entropy_and_its_slopes_are_those_of_fp32(scale: float) -> None:
    logits, targets = random(21, 301) * scale, torch.arange(21) * 7
    wide = logits.float().requires_grad_()
    wanted = F.cross_entropy(wide, targets, reduction="none")
    wanted.sum().backward()
    losses = fused.cross_entropy(logits, targets, slopes=True)
    assert torch.allclose(losses, wanted.detach(), rtol=1e-5, atol=1e-5)
    near(logits, wide.grad)  # type: ignore[arg-type]


@compiled
def test_a_logit_that_is_no_number_shows_in_the_loss() -> None:
    logits = random(4, 64)
    logits[2, 5] = torch.nan
    losses = fused.cross_entropy(logits, torch.zeros(4, dtype=torch.int64), slopes=False)
    assert losses.isnan().tolist() == [False, False, True, False]


@compiled
def test_a_target_outside_the_vocabulary_is_an_error_and_touches_nothing() -> None:
    with pytest.raises(IndexError, match="vocabulary of 50"):
        linear_cross_entropy(random(3, 8), torch.randn(50, 8), torch.tensor([1, 50, 2]))


@compiled
def test_softmax_sees_from_the_first_key_to_its_own() -> None:
    scores, first = random(2, 6, 11), torch.tensor([[0, 0, 2, 2, 2, 5, 6, 6, 6, 9, 9]], dtype=torch.int32)
    wanted = scores.float()
    for row in range(6):  # queries 5 to 7, in two groups
        query = 5 + row % 3
        wanted[:, row, : int(first[0, query])] = -torch.inf
        wanted[:, row, query + 1 :] = -torch.inf
    fused.causal_softmax(scores, first, 2, 5, 3, 0)
    near(scores, wanted.softmax(-1))
    assert (scores[wanted == -torch.inf] == 0).all()


@compiled
@pytest.mark.parametrize("packed", [False, True], ids=["one document", "packed"])
@pytest.mark.parametrize("length", [100, 600], ids=["kept", "computed again"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_in_bf16_has_the_loss_and_the_gradients_of_fp32(shape: str, length: int, packed: bool) -> None:
    """600 tokens are beyond the rows whose probabilities are kept, and no multiple of a block."""
    loss, slopes = gradients(SHAPES[shape], torch.float32, length, packed)
    found, compiled_slopes = gradients(SHAPES[shape], torch.bfloat16, length, packed)
    assert found == pytest.approx(loss, abs=2e-3)
    for name, slope in slopes.items():
        near(compiled_slopes[name], slope, 0.1 if "norm" in name else 0.04)


@compiled
def test_a_step_does_not_depend_on_the_number_of_threads() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        x, weight = random(500, 64), torch.randn(64)
        y, scale = fused.rms_norm(x, weight, 1e-5)
        alone = fused.rms_norm_backward(y, x, weight, scale)
        torch.set_num_threads(3)
        together = fused.rms_norm_backward(y, x, weight, scale)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("setting", [{"LUHUO_NATIVE": "0"}, {"CXX": "no-such-compiler"}, {"CXX": "false"}])
def test_without_a_compiler_the_same_step_runs_in_pytorch(setting: dict[str, str], tmp_path: Path) -> None:
    assert apart(step_in_pytorch, setting | {"LUHUO_CACHE": str(tmp_path)}) == 0


@compiled
def test_the_compiled_library_is_kept_and_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    cache = {"LUHUO_CACHE": str(tmp_path)}
    assert apart(library_is_there, cache) == 0
    (kept,) = (tmp_path / "native").glob("*.so")
    written = kept.stat().st_mtime_ns
    assert apart(library_is_there, cache) == 0 and kept.stat().st_mtime_ns == written
    kept.write_bytes(b"no library")
    assert apart(library_is_there, cache) == ABSENT  # PyTorch's own operations, and no crash
