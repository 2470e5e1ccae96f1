"""Policy gradients on groups of samples: what the losses and advantages must be, whatever the batch looks like."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from luhuo.align import advantages as adv
from luhuo.align.group_value import GroupValue
from luhuo.align.grpo_stage import GrpoStage
from luhuo.align.kl_estimators import kl_terms
from luhuo.align.log_probs import sequence_counts, sequence_sums, token_log_probs
from luhuo.align.methods import METHODS
from luhuo.align.rollout_rows import lay_out
from luhuo.core.errors import LuhuoError
from luhuo.train.gradients import Gradients
from luhuo.train.objective import CausalLM
from luhuo.train.ranks import Ranks
from tests.rl_cases import CPU, gradients, laid, made_up, objective, policy, valued

NAN = math.nan


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Advantages


def test_grpo_standardises_within_a_group() -> None:
    found = adv.standardised(vector(1, 0, 0, 1, 5, 5, 5, 5), torch.tensor([0, 0, 0, 0, 7, 7, 7, 7]))
    expected = 0.5 / (math.sqrt(1 / 3) + 1e-4)
    assert found.tolist() == pytest.approx([expected, -expected, -expected, expected, 0, 0, 0, 0])


def test_dr_grpo_only_centres() -> None:
    assert adv.centred(vector(1, 0, 0, 3), torch.zeros(4)).tolist() == [0, -1, -1, 2]


def test_rloo_compares_with_the_mean_of_the_others() -> None:
    found = adv.leave_one_out(vector(3, 0, 6), torch.zeros(3))
    assert found.tolist() == pytest.approx([3 - 3, 0 - 4.5, 6 - 1.5])


@pytest.mark.parametrize("formula", [adv.standardised, adv.centred, adv.leave_one_out])
def test_a_score_of_zero_counts_and_a_missing_one_does_not(formula: Any) -> None:
    with_zero = formula(vector(0, 2, 1), torch.zeros(3))
    with_missing = formula(vector(NAN, 2, 1), torch.zeros(3))
    without = formula(vector(2, 1), torch.zeros(2))
    assert with_missing[0].isnan() and with_missing[1:].tolist() == pytest.approx(without.tolist())
    assert with_zero[1:].tolist() != pytest.approx(without.tolist())


@pytest.mark.parametrize("formula", [adv.standardised, adv.centred, adv.leave_one_out])
def test_a_group_with_one_score_teaches_nothing(formula: Any) -> None:
    assert formula(vector(4, NAN, 1, 2), torch.tensor([0, 0, 1, 1]))[0] == 0


def test_lite_ppo_divides_by_the_deviation_of_the_batch() -> None:
    centred = adv.centred(vector(1, 0, 10, 0), torch.tensor([0, 0, 1, 1]))
    found = adv.over_deviation(centred, lambda value: value)
    assert found.tolist() == pytest.approx((centred / (centred.std(correction=0) + 1e-4)).tolist())


def test_reinforce_plus_plus_whitens_the_whole_batch() -> None:
    found = adv.whitened(vector(1, 2, 3, NAN), lambda value: value)
    assert found[:3].mean().item() == pytest.approx(0) and found[:3].std(correction=0).item() == pytest.approx(1)


def test_what_is_to_go_ends_with_the_sequence() -> None:
    values, segments = torch.tensor([[1.0, 2, 3, 4, 9]]), torch.tensor([[1, 1, 2, 2, 0]])
    assert adv.to_go(values, segments).tolist() == [[3, 2, 7, 4, 0]]


# The gradient of the KL


@pytest.mark.parametrize(("estimator", "right"), [("k1", True), ("k2", True), ("k3", True), ("k3_plain", False)])
def test_the_gradient_of_the_kl_is_right(estimator: Any, right: bool) -> None:
    logits = torch.tensor([0.3, -1.0, 0.7], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([1.0, 0.2, -0.5], dtype=torch.float64).log_softmax(0)
    (exact,) = torch.autograd.grad((logits.softmax(0) * (logits.log_softmax(0) - reference)).sum(), logits)
    terms = kl_terms(logits.log_softmax(0), reference, torch.ones(3, dtype=torch.float64), estimator)
    # The mean over all actions: chances are constants, for samples do not know where they come from.
    (found,) = torch.autograd.grad((logits.softmax(0).detach() * terms).sum(), logits)
    assert torch.allclose(found, exact) == right


def test_the_kl_is_right_on_samples_of_an_older_policy() -> None:
    logits = torch.tensor([0.3, -1.0, 0.7], dtype=torch.float64, requires_grad=True)
    older = torch.tensor([-0.4, 0.1, 0.2], dtype=torch.float64).log_softmax(0)
    reference = torch.tensor([1.0, 0.2, -0.5], dtype=torch.float64).log_softmax(0)
    divergence = (logits.softmax(0) * (logits.log_softmax(0) - reference)).sum()
    (exact,) = torch.autograd.grad(divergence, logits)
    ratio = (logits.log_softmax(0) - older).exp().detach()
    mean = (older.exp() * kl_terms(logits.log_softmax(0), reference, ratio, "k3")).sum()
    (found,) = torch.autograd.grad(mean, logits)
    assert torch.allclose(found, exact) and mean.item() == pytest.approx(divergence.item())


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3", "k3_plain"])
def test_a_far_token_leaves_the_kl_finite(estimator: Any) -> None:
    far = torch.tensor([-500.0], requires_grad=True)
    term = kl_terms(far, torch.tensor([0.0]), torch.ones(1), estimator).sum()
    term.backward()
    assert term.isfinite() and far.grad is not None and far.grad.isfinite().all()


# The loss


@pytest.mark.parametrize("name", METHODS)
def test_the_ratio_is_exactly_one_at_the_first_update(name: str) -> None:
    batch = valued(name, old=1)
    model = policy(1)
    weight = objective(name).weight(batch)
    _, _, metrics = objective(name).loss(model, batch)
    assert (metrics["ratio"] / weight).item() == pytest.approx(1, abs=1e-6)
    assert (metrics["ratio_variance"] / weight).item() < 1e-12 and metrics["clip_share"] == 0


def test_the_loss_of_groups_is_near_zero_at_the_first_update() -> None:
    batch = valued("grpo", old=1, reference=1)
    loss, weight, _ = objective("grpo").loss(policy(1), batch)
    assert abs(loss.item() / weight.item()) < 1e-5


@pytest.mark.parametrize("name", METHODS)
def test_without_old_log_probabilities_they_are_those_of_now(name: str) -> None:
    kept = valued(name, old=1)
    fresh = {key: value for key, value in kept.items() if key != "old_log_probs"}
    model = policy(1)
    found = []
    for batch in (kept, fresh):
        loss, _, _ = objective(name).loss(model, batch)
        loss.backward()
        found.append((loss.item(), gradients(model)))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-5)
    assert all(torch.allclose(found[0][1][key], found[1][1][key], atol=1e-5) for key in found[0][1])


@pytest.mark.parametrize("name", METHODS)
def test_loss_and_gradients_are_equal_for_any_micro_batch_split(name: str) -> None:
    batch = valued(name, samples=made_up(groups=8))
    rows, model = len(batch["ids"]), policy(3)
    assert rows >= 4
    found = []
    for split in (1, 2, 4):
        passes = Gradients(model, objective(name), Ranks(), -(-rows // split))
        weight, total = passes.compute(batch, 1)
        found.append(({key: (value / weight).item() for key, value in total.items()}, gradients(model)))
    for metrics, slopes in found[1:]:
        assert metrics == pytest.approx(found[0][0], rel=1e-4, abs=1e-6)
        assert all(torch.allclose(slopes[key], found[0][1][key], atol=1e-6) for key in slopes)


@pytest.mark.parametrize("name", METHODS)
def test_packed_and_padded_rows_have_one_loss(name: str) -> None:
    samples = made_up()
    packed = valued(name, samples=samples)
    alone, judged, _ = lay_out([[one] for one in samples], 1, CPU)
    assert len(alone["ids"]) == len(samples) > len(packed["ids"])

    @contextmanager
    def starting():
        yield policy(2)

    value = GroupValue(
        policy(1),
        METHODS[name],
        temperature=1.0,
        reference=starting,
        kl=0.1,
        recompute=True,
        mask_truncated=METHODS[name].mask_truncated,
    )
    padded = value(alone, judged)[0]
    model, task = policy(3), objective(name)
    losses = [task.loss(model, batch)[0].item() / task.weight(batch).item() for batch in (packed, padded)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4, abs=1e-6)


def test_padding_on_the_left_changes_nothing() -> None:
    batch, model, task = valued("grpo"), policy(3), objective("grpo")
    left = {name: torch.nn.functional.pad(tensor, (5, 0)) for name, tensor in batch.items()}
    assert task.loss(model, left)[0].item() == pytest.approx(task.loss(model, batch)[0].item(), rel=1e-4, abs=1e-5)


def test_truncated_answers_leave_numerator_and_denominator() -> None:
    samples = made_up(cut_off=0.0)
    for one in samples[:3]:
        one.sample.ended = False
    rest = valued("dapo", samples=samples)
    targets = [sum(one.sample.mask) for one in samples]
    assert objective("dapo").weight(rest) == sum(targets[3:])
    # Their tokens have no influence: other tokens in their place, the same loss.
    before = objective("dapo").loss(policy(3), rest)[0]
    batch, judged = laid(samples)
    gone = torch.zeros_like(rest["ids"], dtype=torch.bool)
    for row, sequence in (judged.groups >= 0).nonzero().tolist():
        if not judged.ended[row, sequence]:
            gone[row] |= (batch["segments"][row] == sequence + 1) & (batch["mask"][row] == 1)
    changed = rest | {"ids": torch.where(gone, 250, rest["ids"])}
    assert objective("dapo").loss(policy(3), changed)[0].item() == pytest.approx(before.item(), rel=1e-5)


def test_samples_without_a_score_are_no_targets() -> None:
    samples = made_up(cut_off=0.0)
    missing = [replace(one, score=NAN) if i % 3 == 0 else one for i, one in enumerate(samples)]
    batch = valued("dapo", samples=missing)
    assert CausalLM.targets(batch).sum() == sum(sum(one.sample.mask) for one in missing if one.score == one.score)
    assert batch["advantages"].isfinite().all()


def test_observations_are_never_targets() -> None:
    samples = made_up(groups=6)
    assert any(0 in one.sample.mask[len(one.sample.prompt.ids) :] for one in samples)
    batch = valued("grpo", samples=samples)
    assert CausalLM.targets(batch).sum() == sum(sum(one.sample.mask) for one in samples)


@pytest.mark.parametrize(
    ("name", "normal"), [("grpo", "sequence"), ("dapo", "tokens"), ("dr_grpo", "constant"), ("rloo", "sum")]
)
def test_the_normaliser_is_what_the_paper_says(name: str, normal: str) -> None:
    batch, model = valued(name), policy(1)
    task = objective(name, kl=0.0)
    loss = task.loss(model, batch)[0] / task.weight(batch)
    counts = sequence_counts(batch)
    sums = sequence_sums(-batch["advantages"], batch)  # the ratio is 1
    there = counts > 0
    if normal == "sequence":
        expected = (sums / counts.clamp(min=1))[there].mean()
    elif normal == "tokens":
        expected = sums.sum() / counts.sum()
    elif normal == "constant":
        expected = sums.sum() / 32 / there.sum()
    else:
        expected = (sums / counts.clamp(min=1))[there].mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)


def test_rloo_is_reinforce_on_whole_answers() -> None:
    batch, model = valued("rloo", old=1), policy(1)
    task = objective("rloo")
    loss, weight, _ = task.loss(model, batch)
    (loss / weight).backward()
    found = gradients(model)
    log_probs = sequence_sums(token_log_probs(model, batch), batch)
    counts = sequence_counts(batch)
    worth = sequence_sums(batch["advantages"], batch) / counts.clamp(min=1)
    (-(worth * log_probs)[counts > 0].mean()).backward()
    expected = gradients(model)
    assert all(torch.allclose(found[key], expected[key], atol=1e-5) for key in expected)


def test_gspo_has_the_ratio_of_the_sequence_as_geometric_mean() -> None:
    batch, model = valued("gspo", old=1), policy(3)
    task = objective("gspo", kl=0.0, clip_low=0.2, clip_high=0.2)
    loss, weight, _ = task.loss(model, batch)
    (loss / weight).backward()
    found = gradients(model)
    counts = sequence_counts(batch)
    change = sequence_sums(token_log_probs(model, batch) - batch["old_log_probs"], batch) / counts.clamp(min=1)
    worth = sequence_sums(batch["advantages"], batch) / counts.clamp(min=1)
    ratio = change.exp()
    plain = -torch.minimum(ratio * worth, ratio.clamp(0.8, 1.2) * worth)[counts > 0].mean()
    plain.backward()
    expected = gradients(model)
    assert (loss / weight).item() == pytest.approx(plain.item(), rel=1e-4)
    assert all(torch.allclose(found[key], expected[key], atol=1e-5) for key in expected)


def test_reinforce_plus_plus_pays_for_the_kl_token_by_token() -> None:
    samples = made_up(cut_off=0.0)
    batch = valued("reinforce++", samples=samples)
    valid = CausalLM.targets(batch)
    cost = 0.1 * torch.where(valid, batch["old_log_probs"] - batch["reference_log_probs"], 0.0)
    score = torch.zeros_like(cost)
    _, judged = laid(samples)
    for row, sequence in (judged.groups >= 0).nonzero().tolist():
        score[row][batch["segments"][row, 1:] == sequence + 1] = judged.scores[row, sequence]
    raw = (score - adv.to_go(cost, batch["segments"][:, 1:]))[valid]
    expected = (raw - raw.mean()) / (raw.std(correction=0) + 1e-8)
    assert torch.allclose(batch["advantages"][valid], expected, atol=1e-4)


def test_clip_higher_lets_good_tokens_rise_further() -> None:
    one = objective("grpo", clip_low=0.2, clip_high=0.28)
    ratio, worth = torch.tensor([[1.25, 1.4, 0.7, 0.7]]), torch.tensor([[1.0, 1.0, -1.0, 1.0]])
    losses, clipped = one._surrogate(ratio, worth)
    assert losses[0].tolist() == pytest.approx([-1.25, -1.28, 0.8, -0.7])
    assert clipped[0].tolist() == [False, True, True, False]


def test_dual_clip_bounds_what_a_bad_token_can_cost() -> None:
    ratio, worth = torch.tensor([[9.0, 9.0]]), torch.tensor([[-1.0, -1.0]])
    assert objective("grpo")._surrogate(ratio, worth)[0][0, 0].item() == pytest.approx(9)
    assert objective("grpo", dual_clip=3.0)._surrogate(ratio, worth)[0][0, 0].item() == pytest.approx(3)


def test_truncated_importance_sampling_weighs_by_trainer_over_sampler() -> None:
    batch, model = valued("grpo", old=1), policy(1)
    gap = torch.where(CausalLM.targets(batch), batch["old_log_probs"] - batch["sampled_log_probs"], 0.0)
    counts = sequence_counts(batch)
    one = objective("grpo", correction="token", correction_cap=2.0)
    assert torch.allclose(one._corrections(batch["old_log_probs"], batch, counts), gap.exp().clamp(max=2.0))
    masked = objective("grpo", correction="mask", correction_cap=2.0)._corrections(
        batch["old_log_probs"], batch, counts
    )
    assert set(masked.unique().tolist()) <= {0.0, 1.0}
    assert one.loss(model, batch)[0].item() != pytest.approx(objective("grpo").loss(model, batch)[0].item())


@pytest.mark.parametrize("correction", ["token", "sequence", "mask"])
def test_where_sampler_and_trainer_agree_nothing_is_corrected(correction: Any) -> None:
    batch, model = valued("grpo", old=1), policy(3)
    batch["sampled_log_probs"] = batch["old_log_probs"]
    corrected = objective("grpo", correction=correction).loss(model, batch)[0]
    assert corrected.item() == pytest.approx(objective("grpo").loss(model, batch)[0].item())


def test_the_sampler_s_log_probabilities_can_be_trusted() -> None:
    value = GroupValue(policy(1), METHODS["grpo"], temperature=1.0, recompute=True, trust_sampler=True)
    batch = value(*laid(made_up()))[0]
    assert torch.equal(batch["old_log_probs"], batch["sampled_log_probs"])


# The stage's settings


@pytest.mark.parametrize("method", ["grpo", "dr_grpo", "dapo", "gspo", "rloo", "reinforce++-baseline"])
def test_one_sample_a_prompt_is_refused(method: str) -> None:
    with pytest.raises(LuhuoError, match="teaches nothing"):
        stage(method=method, samples=1)
    stage(method=method, samples=2)


def test_reinforce_plus_plus_needs_no_group() -> None:
    assert stage(method="reinforce++", samples=1).samples == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"old": "sampler", "correction": "token"}, "corrects for the sampler already"),
        ({"batch_warmup": 0.1}, "batch_warmup must be 0"),
        ({"parallel": {"fsdp": 2}}, "whole copies"),
        ({"samples": 1, "method": "reinforce++", "attempts": 3}, "attempts needs samples"),
    ],
)
def test_settings_that_cannot_go_together_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(LuhuoError, match=words):
        stage(**settings)


def stage(**changes: Any) -> GrpoStage:
    values = {"model": "m", "prompts": "p", "rewards": [{"kind": "check"}], "steps": 1}
    return GrpoStage.parse(values | changes)
