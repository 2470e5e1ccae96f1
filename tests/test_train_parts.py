"""Objective, cross-entropy, optimisers, schedules, sizes: each against its definition."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from luhuo.core.errors import LuhuoError
from luhuo.model.count import flops_per_token, parameters
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.train import cross_entropy
from luhuo.train.config import TrainerConfig
from luhuo.train.cross_entropy import linear_cross_entropy
from luhuo.train.heldout import bits_per_byte
from luhuo.train.objective import CausalLM
from luhuo.train.optimisers import Optimiser
from luhuo.train.optimisers.muon import orthogonalise
from luhuo.train.schedule import factor
from luhuo.train.sizes import Shape, derive
from tests.test_model_decoder import CONFIG, random_ids, random_model


def test_cross_entropy_in_chunks_equals_the_plain_one_with_its_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "chunk_rows", lambda vocabulary, kind: 16)
    monkeypatch.setattr(cross_entropy, "MULTIPLE", 4)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(53, 12, generator=generator, requires_grad=True)
    weight = (4 * torch.randn(50, 12, generator=generator)).requires_grad_()
    targets = torch.randint(0, 50, (53,), generator=generator)
    expected = F.cross_entropy(hidden @ weight.t(), targets, reduction="sum")
    found = linear_cross_entropy(hidden, weight, targets)
    torch.testing.assert_close(found, expected)
    for mine, theirs in zip(
        torch.autograd.grad(found / 7, [hidden, weight]),
        torch.autograd.grad(expected / 7, [hidden, weight]),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_a_hopeless_target_has_a_large_but_finite_loss() -> None:
    hidden = torch.tensor([[200.0]])
    loss = linear_cross_entropy(hidden, torch.tensor([[1.0], [-1.0]]), torch.tensor([1]))
    assert loss.item() == pytest.approx(400.0)


def test_padding_document_starts_and_masked_tokens_are_no_targets() -> None:
    batch = {
        "ids": torch.tensor([[5, 6, 7, 8, 9, 1]]),
        "segments": torch.tensor([[1, 1, 2, 2, 2, 0]]),
        "mask": torch.tensor([[0, 1, 1, 0, 1, 1]]),
    }
    assert CausalLM.targets(batch).tolist() == [[True, False, False, True, False]]


def test_the_loss_of_packed_documents_is_the_sum_of_their_losses_alone() -> None:
    model, ids, objective = random_model(), random_ids(1, 91), CausalLM()
    segments = torch.tensor([[1] * 40 + [2] * 51])
    packed, weight, _ = objective.loss(model, {"ids": ids, "segments": segments})
    parts = [objective.loss(model, {"ids": part})[0] for part in (ids[:, :40], ids[:, 40:])]
    assert weight == 39 + 50
    torch.testing.assert_close(packed, parts[0] + parts[1])


def test_bits_per_byte_of_a_uniform_model_is_the_vocabulary_s_bits_over_the_bytes_of_a_token() -> None:
    model = initialise(Decoder(CONFIG), 0)
    torch.nn.init.zeros_(model.embedding)
    batches = [{"ids": random_ids(2, 11).numpy()}] * 3
    score = bits_per_byte(lambda: batches, [2] * CONFIG.vocab_size, 2)
    with torch.no_grad():
        assert score(model)["valid_bpb"] == pytest.approx(torch.tensor(97.0).log2().item() / 2)


@pytest.mark.parametrize("shape", [(3, 16, 40), (2, 40, 16), (1, 24, 24)])
def test_orthogonalise_brings_all_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices).float())
    assert values.min() > 0.5
    assert values.max() < 1.35


def test_muon_treats_the_parts_of_a_fused_projection_as_matrices_of_their_own() -> None:
    model = random_model()
    before = model.blocks[0].attention.qkv.weight.detach().clone()  # type: ignore[union-attr]
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    Optimiser(model, TrainerConfig(steps=1, learning_rate=0.1, weight_decay=0.0)).step(1.0)
    moved = (before - model.blocks[0].attention.qkv.weight).detach()  # type: ignore[union-attr]
    for part in moved.split(CONFIG.qkv_rows):
        scaled = part / (0.1 * 0.2 * max(part.shape) ** 0.5)
        values = torch.linalg.svdvals(scaled)
        assert values.min() > 0.4
        assert values.max() < 1.35


def test_a_muon_step_has_the_root_mean_square_of_an_adamw_step() -> None:
    matrix = torch.randn(1, 64, 192, generator=torch.Generator().manual_seed(0))
    step = 0.2 * 192**0.5 * orthogonalise(matrix).float()
    assert 0.15 < step.square().mean().sqrt().item() < 0.25


def test_schedules_warm_up_hold_and_fall() -> None:
    wsd = [factor(s, TrainerConfig(steps=100, warmup=0.1, decay=0.2)) for s in range(100)]
    assert wsd[0] == pytest.approx(0.1)
    assert wsd[9:80] == [1.0] * 71
    assert wsd[80] < 1.0
    assert 0 < wsd[99] < 0.06
    cosine = [factor(s, TrainerConfig(steps=100, warmup=0.0, schedule="cosine", floor=0.1)) for s in range(100)]
    assert cosine[49] == pytest.approx(0.55, abs=0.02)
    assert cosine[99] == pytest.approx(0.1, abs=0.01)
    linear = [factor(s, TrainerConfig(steps=100, warmup=0.0, schedule="linear")) for s in range(100)]
    assert all(a > b > 0 for a, b in itertools.pairwise(linear))
    assert factor(99, TrainerConfig(steps=100, schedule="constant")) == 1.0
    root = TrainerConfig(steps=1000, schedule="inverse_sqrt", warmup_steps=40)
    assert factor(39, root) == factor(20, root) * 40 / 21 == 1.0
    assert factor(159, root) == pytest.approx(0.5)


def test_warm_up_in_steps_comes_before_its_share() -> None:
    for steps, expected in ((0, 1.0), (4, 0.25)):
        assert factor(0, TrainerConfig(steps=100, warmup=0.5, warmup_steps=steps)) == expected


def test_the_last_share_of_wsd_falls_as_it_is_told_to() -> None:
    linear, root = (TrainerConfig(steps=101, warmup=0, decay=0.5, decay_shape=s) for s in ("linear", "sqrt"))
    start = 50  # the first of 51 decaying steps
    assert factor(start - 1, root) == factor(start - 1, linear) == 1.0
    for step in range(start, 101):
        progress = (step - start + 1) / 52
        assert factor(step, linear) == pytest.approx(1 - progress)
        assert factor(step, root) == pytest.approx(1 - progress**0.5)


@pytest.mark.parametrize(
    ("size", "target"), [("1m", 1e6), ("3m", 3e6), ("5m", 5e6), ("30m", 3e7), ("300m", 3e8), ("1b", 1e9)]
)
def test_a_size_gives_about_that_many_parameters(size: str, target: float) -> None:
    plan = derive(size, vocab_size=4096 if target < 1e7 else 32_000)
    assert sum(parameters(plan.model).values()) == pytest.approx(target, rel=0.1)
    assert plan.batch % plan.length == 0
    assert all(name in plan.table() for name in ("layers", "learning_rate", "tokens"))


def test_what_is_set_by_hand_stays_and_the_rest_follows() -> None:
    plan = derive("3m", 4096, shape=Shape(layers=4), length=128, tokens=1000)
    assert (plan.model.layers, plan.length, plan.tokens) == (4, 128, 1000)
    assert sum(parameters(plan.model).values()) == pytest.approx(3e6, rel=0.1)
    with pytest.raises(LuhuoError, match="big"):
        derive("big", 4096)


def test_flops_are_six_per_matrix_parameter_and_the_attention_s() -> None:
    parts = parameters(CONFIG)
    matrices = parts["attention"] + parts["mlp"] + parts["embedding"]
    assert flops_per_token(CONFIG, 100) == 6 * matrices + 6 * 2 * 4 * 8 * 100
