"""What a round need not compute: prompts that answers share, rows that move no weight, weights rounded again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from luhuo.align.group_value import GroupValue
from luhuo.align.log_probs import token_log_probs
from luhuo.align.methods import METHODS
from luhuo.align.policy_gradient import PolicyGradient
from luhuo.align.rollout import Rollout
from luhuo.align.rollout_rows import LONGEST, STEP, Scored, lay_out
from luhuo.align.rollout_weights import as_computed
from luhuo.train.gradients import Gradients
from luhuo.train.objective import CausalLM
from luhuo.train.ranks import Ranks
from tests.rl_cases import CPU, gradients, laid, made_up, objective, policy, prompt, valued

# Prompts that several answers share


@pytest.mark.parametrize("name", ["grpo", "rloo", "gspo", "dr_grpo", "dapo"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_answers_that_share_their_prompt_have_the_loss_and_gradients_of_separate_ones(
    name: str, dtype: torch.dtype
) -> None:
    asked = {number: prompt(f"{number}, a question that is long enough to be shared") for number in range(3)}
    groups = Rollout(policy(), samples=4, max_tokens=12, length=128).sample(asked, 0)
    samples = [Scored(one, float(len(one.ids) % 3), number) for number, some in groups.items() for one in some]
    model = policy(1).compute_in(dtype)
    found = []
    for share in (False, True):
        batch, judged, _ = lay_out([samples], 1, CPU, share=share)
        assert ("trunks" in batch) == share
        value = GroupValue(model, METHODS[name], temperature=1.0, recompute=True)
        valued = value(batch, judged)[0]
        work = Gradients(model, PolicyGradient(METHODS[name], constant=12.0), Ranks(), 1)
        weight, total = work.compute(valued, 1)
        slopes = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
        model.zero_grad(set_to_none=True)
        old = valued["old_log_probs"][CausalLM.targets(valued)].sort().values
        found.append((weight, total["loss"], slopes, old, (batch["segments"] != 0).sum()))
    (weight, loss, slopes, old, tokens), (other_weight, other_loss, other, shared_old, fewer) = found
    close = 1e-5 if dtype == torch.float32 else 3e-2
    assert weight == other_weight and fewer < 0.8 * tokens
    assert torch.allclose(old, shared_old, atol=close)
    assert torch.allclose(loss / weight, other_loss / weight, atol=close)
    largest = max(slope.abs().max() for slope in slopes.values())
    assert all((slopes[key] - other[key]).abs().max() < close * largest for key in slopes)


def test_rows_of_shared_prompts_are_cut_where_they_become_long() -> None:
    drawn = Rollout(policy(), samples=24, max_tokens=24, length=200).sample({0: prompt("many words " * 4)}, 0)
    samples = [Scored(sample, 0.0, 0) for sample in drawn[0]]
    batch, judged, _ = lay_out([samples], 1, CPU, share=True)
    assert batch["ids"].shape[1] <= LONGEST + 1 + STEP and len(batch["ids"]) > 1
    assert int((judged.groups == 0).sum()) == len(samples)
    for row, sequence in (judged.groups >= 0).nonzero().tolist():
        own = batch["segments"][row] == sequence + 1
        trunk = batch["segments"][row] == batch["trunks"][row][own][0]
        ids = [*batch["ids"][row][trunk].tolist(), *batch["ids"][row][own].tolist()]
        assert any(one.sample.ids == ids for one in samples)


# Weights that are rounded once


def test_master_weights_are_sampled_from_a_copy_as_they_are_multiplied() -> None:
    model = policy().compute_in(torch.bfloat16)
    rollout = Rollout(model, samples=4, max_tokens=16, length=64)
    for factor in (1.0, -0.5):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(factor)
        samples = rollout.sample({0: prompt("x")}, 0)[0]
        batch, _ = laid([Scored(sample, 0.0, 0) for sample in samples])
        with torch.no_grad():
            scored = token_log_probs(model, batch)
        gap = (scored - batch["sampled_log_probs"])[CausalLM.targets(batch)].abs()
        assert gap.mean() < 5e-3 < scored.abs().mean()
    assert {p.dtype for p in rollout._ready().model.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    plain = policy()
    assert as_computed(plain) is plain


# Rows that move no weight


@pytest.mark.parametrize("name", METHODS)
def test_rows_that_move_no_weight_are_left_out_and_change_nothing(name: str) -> None:
    some = made_up(groups=8)
    some = [replace(one, score=0.25) if one.group % 2 else one for one in some]
    whole = (
        valued(name, samples=some)
        if METHODS[name].kl_in == "loss"
        else GroupValue(
            policy(1), METHODS[name], temperature=1.0, recompute=True, mask_truncated=METHODS[name].mask_truncated
        )(*laid(some))[0]
    )
    model, task = policy(3), objective(name, kl=0.0)
    less = task.prepare(model, whole)
    teaches = METHODS[name].baseline != "none" and not METHODS[name].whiten
    assert (len(less["ids"]) < len(whole["ids"])) == teaches and task.weight(less) == task.weight(whole)
    found = []
    for batch in (whole, less):
        weight, total = Gradients(model, task, Ranks(), 2).compute(batch, 1)
        found.append(((total["loss"] / weight).item(), gradients(model)))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    assert all(torch.allclose(found[0][1][key], found[1][1][key], atol=1e-6) for key in found[0][1])


def test_metrics_are_means_over_what_was_computed() -> None:
    some = [replace(one, score=0.25) if one.group % 2 else one for one in made_up(groups=8)]
    whole = valued("dapo", samples=some)
    model, task = policy(3), objective("dapo", kl=0.0)
    less = task.prepare(model, whole)
    metrics, weight = task.loss(model, less)[2], task.weight(less)
    bare = {key: tensor for key, tensor in less.items() if key not in ("counted", "spread")}
    expected = task.loss(model, bare)[2]["entropy"] / task.weight(bare)
    assert metrics["entropy"] / weight == pytest.approx(expected.item(), rel=1e-5)


def test_with_a_distance_in_the_loss_all_rows_stay() -> None:
    whole = valued("grpo", samples=[replace(one, score=0.25) for one in made_up(groups=4)])
    assert len(objective("grpo").prepare(policy(3), whole)["ids"]) == len(whole["ids"])
    assert len(objective("grpo", kl=0.0).prepare(policy(3), whole)["ids"]) == 1
