"""Gradients that stay in bf16 say what those in fp32 say, and give way where passes are summed."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from luhuo.core.artifact import Workspace
from luhuo.core.metrics import MetricsLog
from luhuo.kernels import fused
from luhuo.kernels.native import library, why_not
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.train import half_gradients
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import CausalLM
from luhuo.train.trainer import Trainer
from tests.test_train_trainer import CONFIG, SmallLoader

pytestmark = pytest.mark.skipif(library() is None, reason=f"no compiled kernels here: {why_not()}")


def small() -> Decoder:
    config = ModelConfig(
        family="llama", vocab_size=CONFIG.vocab_size, hidden_size=64, layers=2, heads=4, kv_heads=2, head_dim=16,
        intermediate_size=96, qk_norm="none", tie_embeddings=True,
    )  # fmt: skip
    return initialise(Decoder(config), 0)


def test_adamw_moves_as_pytorchs_does() -> None:
    weight, gradient = torch.randn(500), torch.randn(500).bfloat16()
    theirs = torch.nn.Parameter(weight.clone())
    optimiser = torch.optim.AdamW([theirs], lr=0.02, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.1)
    moments = (torch.zeros(500), torch.zeros(500))
    for step in range(1, 5):
        theirs.grad = gradient.float() * step
        optimiser.step()
        fused.adamw(
            weight, (gradient * step).bfloat16(), moments, rate=0.02, decay=0.1, betas=(0.9, 0.95), epsilon=1e-10,
            step=step,
        )  # fmt: skip
        assert torch.allclose(weight, theirs.detach(), atol=2e-4)


def test_a_product_leaves_the_same_gradient_in_half_the_memory() -> None:
    model = small().train().compute_in(torch.bfloat16)
    twin = copy.deepcopy(model)
    halves = half_gradients.matrices(model, "adamw")
    assert len(halves) == 2 * 4  # qkv, out, gate and up, down of each block
    half_gradients.keep_half(halves, half=True)
    batch = {"ids": torch.randint(0, CONFIG.vocab_size, (3, 9), generator=torch.Generator().manual_seed(0))}
    for each in (model, twin):
        CausalLM().loss(each, batch)[0].backward()
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert mine.grad is not None and theirs.grad is not None
        assert mine.grad.dtype == (torch.bfloat16 if any(mine is half for half in halves) else torch.float32)
        assert torch.equal(mine.grad.float(), theirs.grad)


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_run_ends_where_it_ends_with_two_passes_a_step(optimiser: str, tmp_path: Path) -> None:
    """Two passes sum in fp32, one keeps bf16: only the order of sums and rounding differ."""
    ends = []
    for rows in (0, 2):
        model, folder = small(), tmp_path / str(rows)
        folder.mkdir()
        settings = TrainerConfig(
            steps=8, optimiser=optimiser, learning_rate=1e-3, dtype="bf16", micro_batch=rows, checkpoint_every_s=0
        )
        trainer = Trainer(
            model, CausalLM(), SmallLoader(), settings, Workspace(folder, MetricsLog(folder / "metrics.jsonl"))
        )
        ends.append(trainer.run()["loss"])
        assert all(p.grad_dtype == torch.float32 for p in model.parameters())
    assert ends[0] == pytest.approx(ends[1], rel=0.01)


def test_optimisers_that_need_fp32_and_other_formats_are_left_alone() -> None:
    model = small().train()
    assert half_gradients.matrices(model.compute_in(torch.bfloat16), "lion") == []
    assert half_gradients.matrices(model.compute_in(None), "adamw") == []
