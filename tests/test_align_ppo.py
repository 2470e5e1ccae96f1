"""PPO on plain tensors and a tiny model: advantages, losses, whitening, the KL coefficient, the worth of samples."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from luhuo.align.gae import at_last_token, estimate, explained_variance, last_tokens, share_explained
from luhuo.align.kl_control import KLControl
from luhuo.align.log_probs import sequence_sums, token_log_probs
from luhuo.align.ppo import PPO, policy_losses, value_losses, whiten
from luhuo.align.ppo_experience import Experience, Worth
from luhuo.align.reward_model import with_head
from luhuo.align.rollout_rows import Judged
from luhuo.align.rollout_run import reference_of
from luhuo.align.value_model import ActorCritic, share_frozen, token_values, without_opinion
from luhuo.train.gradients import Gradients
from luhuo.train.objective import Batch, CausalLM
from luhuo.train.ranks import Ranks
from tests.small_chat import small_model, small_tokenizer

ONE = torch.ones(1, 3, dtype=torch.int32)


def test_advantages_of_a_hand_computed_example():
    rewards, values = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.5, 0.4, 0.8]])
    advantages, returns = estimate(rewards, values, torch.ones(1, 3, dtype=torch.bool), ONE, lam=0.95)
    last = 1.0 - 0.8
    middle = (0.8 - 0.4) + 0.95 * last
    first = (0.4 - 0.5) + 0.95 * middle
    assert advantages[0].tolist() == pytest.approx([first, middle, last])
    assert returns[0].tolist() == pytest.approx([first + 0.5, middle + 0.4, last + 0.8])


def test_with_gamma_and_lambda_one_the_return_is_the_sum_of_what_follows():
    rewards, values = torch.tensor([[0.1, -0.2, 1.0]]), torch.tensor([[3.0, -1.0, 0.4]])
    _, returns = estimate(rewards, values, torch.ones(1, 3, dtype=torch.bool), ONE, lam=1.0)
    assert returns[0].tolist() == pytest.approx([0.9, 0.8, 1.0])


def test_what_a_tool_wrote_in_between_is_stepped_over():
    torch.manual_seed(0)
    rewards, values = torch.randn(1, 4), torch.randn(1, 4)
    valid = torch.tensor([[1, 1, 0, 0, 0, 1, 1]], dtype=torch.bool)
    wide_rewards, wide_values = torch.zeros(1, 7), torch.full((1, 7), 9.0)
    wide_rewards[valid], wide_values[valid] = rewards[0], values[0]
    segments = torch.ones(1, 7, dtype=torch.int32)
    plain = estimate(rewards, values, torch.ones(1, 4, dtype=torch.bool), segments[:, :4], gamma=0.9)
    found = estimate(wide_rewards, wide_values, valid, segments, gamma=0.9)
    for ours, theirs in zip(found, plain, strict=True):
        assert torch.allclose(ours[valid], theirs[0]) and not ours[~valid].any()


def test_packed_sequences_have_the_advantages_they_have_alone():
    torch.manual_seed(0)
    rewards, values = torch.randn(1, 8), torch.randn(1, 8)
    segments = torch.tensor([[1, 1, 1, 2, 2, 3, 0, 0]], dtype=torch.int32)
    valid = segments != 0
    packed, _ = estimate(rewards, values, valid, segments)
    for number in (1, 2, 3):
        mine = segments[0] == number
        alone, _ = estimate(rewards[:, mine], values[:, mine], valid[:, mine], segments[:, mine])
        assert torch.allclose(packed[:, mine], alone)


def test_the_score_stands_at_the_last_chosen_token_and_a_score_of_zero_is_one():
    segments = torch.tensor([[1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1]])
    valid = torch.tensor([[0, 1, 0, 1, 1, 0], [1, 1, 1, 0, 0, 0]], dtype=torch.bool)
    assert last_tokens(valid, segments, 2).tolist() == [[1, 4], [2, -1]]
    placed = at_last_token(torch.tensor([[0.5, -2.0], [0.0, 7.0]]), valid, segments)
    assert placed.tolist() == [[0, 0.5, 0, 0, -2.0, 0], [0] * 6]


def test_explained_variance_is_one_for_a_perfect_critic_and_zero_for_a_constant_one():
    returns, valid = torch.tensor([[1.0, 2.0, 4.0]]), torch.ones(1, 3, dtype=torch.bool)
    assert share_explained(explained_variance(returns, returns, valid)) == pytest.approx(1.0)
    assert share_explained(explained_variance(torch.full((1, 3), 9.0), returns, valid)) == pytest.approx(0.0)
    assert share_explained(explained_variance(-returns, returns, valid)) == pytest.approx(-3.0)
    assert share_explained(explained_variance(returns, torch.ones(1, 3), valid)) == 0.0


def test_the_policy_loss_is_clipped_on_the_side_where_it_would_go_too_far():
    ratios = torch.tensor([1.5, 0.5, 1.5, 0.5, 5.0])
    advantages = torch.tensor([1.0, 1.0, -1.0, -1.0, -1.0])
    log_probs = ratios.log().requires_grad_()
    losses, ratio, clipped = policy_losses(log_probs, torch.zeros(5), advantages, 0.2, 3.0)
    assert losses.tolist() == pytest.approx([-1.2, -0.5, 1.5, 0.8, 3.0])
    assert clipped.tolist() == [True, False, False, True, True]
    assert torch.allclose(ratio, ratios)
    losses.sum().backward()
    assert log_probs.grad is not None
    assert log_probs.grad.tolist() == pytest.approx([0, -0.5, 1.5, 0, 0])


def test_without_dual_clip_a_bad_token_that_became_likely_is_pushed_without_bound():
    losses, _, clipped = policy_losses(torch.tensor([5.0]).log(), torch.zeros(1), torch.tensor([-1.0]), 0.2, 0.0)
    assert losses.item() == pytest.approx(5.0) and not clipped.item()


def test_an_absurd_log_ratio_gives_a_finite_loss():
    losses, ratio, _ = policy_losses(
        torch.tensor([0.0, -900.0]), torch.tensor([-900.0, 0.0]), -torch.ones(2), 0.2, 3.0
    )
    assert losses.isfinite().all() and ratio.isfinite().all()


def test_the_value_loss_is_half_of_the_larger_of_clipped_and_free():
    values, old = torch.tensor([1.0, 1.0, 0.1]), torch.zeros(3)
    losses, clipped = value_losses(values, old, torch.tensor([2.0, 0.0, 1.0]), 0.2)
    assert losses.tolist() == pytest.approx([0.5 * 1.8**2, 0.5, 0.5 * 0.9**2])
    assert clipped.tolist() == [True, False, False]
    free, _ = value_losses(values, old, torch.tensor([2.0, 0.0, 1.0]), 0.0)
    assert free.tolist() == pytest.approx([0.5, 0.5, 0.5 * 0.9**2])


def test_whitening_looks_at_valid_tokens_only_and_keeps_the_mean_where_asked():
    values, valid = torch.tensor([[1.0, 3.0, 500.0]]), torch.tensor([[True, True, False]])
    assert whiten(values, valid, _alone)[0].tolist() == pytest.approx([-1, 1, 0])
    assert whiten(values, valid, _alone, keep_mean=True)[0].tolist() == pytest.approx([1, 3, 0])
    assert whiten(values * 10, valid, _alone, keep_mean=True)[0].tolist() == pytest.approx([19, 21, 0])


def test_whitening_over_processes_is_that_of_all_values_together():
    values = torch.randn(2, 6, generator=torch.Generator().manual_seed(0)) * 4 + 2
    valid = torch.rand(2, 6, generator=torch.Generator().manual_seed(1)) < 0.6
    whole = whiten(values, valid, _alone)
    # What the other process would send, call by call: (number, sum), then squares around the common mean.
    mean = values[valid].double().mean()
    other = [torch.tensor([float(valid[1].sum()), values[1][valid[1]].sum()]).double()]
    other.append((values[1][valid[1]].double() - mean).square().sum()[None])
    mine = whiten(values[:1], valid[:1], lambda tensor: tensor + other.pop(0))
    assert torch.allclose(mine, whole[:1], atol=1e-6)


def test_the_adaptive_coefficient_follows_ziegler_and_a_fixed_one_stays():
    control = KLControl(0.1, target=6.0, horizon=1000)
    control.update(12.0, 100)
    assert control.coefficient == pytest.approx(0.1 * (1 + 0.2 * 0.1))
    control.update(5.7, 100)
    assert control.coefficient == pytest.approx(0.102 * (1 - 0.05 * 0.1))
    control.update(0.0, 10**9)
    assert control.coefficient > 0
    control.update(math.nan, 100)
    assert math.isfinite(control.coefficient)
    fixed = KLControl(0.05)
    fixed.update(100.0, 100)
    assert fixed.coefficient == 0.05
    fixed.restore(control.state())
    assert fixed.coefficient == control.coefficient


def _alone(tensor: Tensor) -> Tensor:
    return tensor


def samples(rows: int = 4, width: int = 20) -> Batch:
    """Two packed texts a row, each a prompt of three tokens and an answer; the second row has one, and padding."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(20, small_tokenizer().vocab_size, (rows, width + 1), generator=generator)
    segments, mask = torch.ones_like(ids, dtype=torch.int32), torch.ones_like(ids, dtype=torch.int32)
    cut = width // 2
    segments[:, cut:] = 2
    mask[:, :3] = mask[:, cut : cut + 3] = 0
    segments[1, cut:], mask[1, cut:] = 0, 0
    return {"ids": ids, "segments": segments, "mask": mask, "sampled_log_probs": torch.zeros(rows, width)}


def pair(critic_head: float = 0.3) -> ActorCritic:
    critic = without_opinion(small_model())
    with torch.no_grad():
        critic.score.weight += critic_head * torch.randn(1, 64, generator=torch.Generator().manual_seed(2))
    return ActorCritic(small_model(), critic)


def experience(model: ActorCritic, coefficient: float = 0.1, **worth: Any) -> Experience:
    return Experience(model, reference_of(model.policy), KLControl(coefficient), Worth(**worth))


def valued(model: ActorCritic, **worth: Any) -> Batch:
    batch = samples()
    return experience(model, **worth)(batch, judged(torch.tensor([[1.0, 0.0]] * 4)))[0]


def judged(scores: Tensor, ended: Tensor | None = None) -> Judged:
    ended = torch.ones(scores.shape, dtype=torch.bool) if ended is None else ended
    return Judged(scores, ended, torch.arange(scores.numel()).view(scores.shape))


def moved(model: ActorCritic) -> ActorCritic:
    """The model after a step that nobody asked for, so that ratios differ from 1."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    return model


def losses_and_gradients(model: ActorCritic, batch: Batch, rows: int) -> tuple[dict[str, float], dict[str, Tensor]]:
    model.train().zero_grad(set_to_none=True)
    objective = PPO(pretraining=0.5)
    with torch.no_grad():
        batch = objective.prepare(model, batch)
    weight, total = Gradients(model, objective, Ranks(), rows).compute(batch, 1)  # type: ignore[arg-type]
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: (value / weight).item() for name, value in total.items()}, found


def with_text(batch: Batch) -> Batch:
    ids = torch.randint(20, 300, (4, 12), generator=torch.Generator().manual_seed(6))
    segments = torch.ones_like(ids, dtype=torch.int32)
    segments[2:, 5:] = 0
    return batch | {"text_ids": ids, "text_segments": segments}


def test_losses_and_gradients_of_policy_critic_and_text_do_not_depend_on_micro_batches():
    model = pair()
    batch = with_text(valued(model))
    moved(model)
    whole, gradients = losses_and_gradients(model, batch, 4)
    assert whole["policy_loss"] != 0 and whole["value_loss"] > 0 and whole["text_loss"] > 0
    assert {name.split(".")[0] for name in gradients} == {"policy", "critic"}
    for rows in (2, 1):
        parts, others = losses_and_gradients(model, batch, rows)
        assert parts == pytest.approx(whole, rel=1e-5)
        for name, gradient in gradients.items():
            assert torch.allclose(others[name], gradient, rtol=1e-4, atol=1e-6), name


def test_text_counts_with_its_own_mean():
    model = pair()
    batch = with_text(valued(model))
    found, _ = losses_and_gradients(model, batch, 2)
    text = {"ids": batch["text_ids"], "segments": batch["text_segments"]}
    loss, count, _ = CausalLM().loss(model.policy.eval(), text)
    assert found["text_loss"] == pytest.approx((loss / count).item(), rel=1e-5)
    parts = found["policy_loss"] + 0.1 * found["value_loss"] + 0.5 * found["text_loss"]
    assert found["loss"] == pytest.approx(parts, rel=1e-6)


def test_the_ratio_is_exactly_one_before_the_first_step():
    model = pair()
    found, _ = losses_and_gradients(model, valued(model), 4)
    assert found["ratio"] == pytest.approx(1.0, abs=1e-6) and found["ratio_variance"] < 1e-10
    assert found["clip_share"] == 0 and abs(found["approx_kl"]) < 1e-6
    assert found["policy_loss"] == pytest.approx(0.0, abs=1e-5)  # whitened advantages sum to zero


def test_the_same_temperature_divides_the_logits_in_every_pass():
    model = pair()
    batch = valued(model, temperature=0.7)
    by_hand = (model.policy(batch["ids"][:, :-1], segments=batch["segments"][:, :-1]).float() / 0.7).log_softmax(-1)
    by_hand = by_hand.gather(2, batch["ids"][:, 1:, None])[..., 0]
    valid = CausalLM.targets(batch)
    assert torch.allclose(batch["old_log_probs"][valid], by_hand[valid], atol=1e-5)
    _, _, metrics = PPO(temperature=0.7).loss(model, batch)
    assert (metrics["ratio"] / valid.sum()).item() == pytest.approx(1.0, abs=1e-6)


def test_dropout_is_off_in_training_mode():
    policy = small_model()
    policy.add_module("noise", nn.Dropout(0.5))
    model = ActorCritic(policy, without_opinion(small_model())).train()
    noise = next(module for module in model.modules() if isinstance(module, nn.Dropout))
    assert torch.equal(noise(torch.ones(1000)), torch.ones(1000))


def test_the_kl_penalty_is_that_of_the_log_ratio_and_reported_beside_the_score():
    model = pair()
    value = experience(model, coefficient=0.5)
    batch, told = value(samples(), judged(torch.ones(4, 2)))
    assert told["kl"] == pytest.approx(0.0, abs=1e-5) and told["objective"] == pytest.approx(1.0, abs=1e-5)
    moved(model)
    batch, told = value(samples(), judged(torch.ones(4, 2)))
    with torch.no_grad(), value.reference() as reference:
        change = token_log_probs(model.policy, batch) - token_log_probs(reference, batch)
    expected = sequence_sums(change, batch).sum() / 7
    assert told["kl"] == pytest.approx(expected.item(), rel=1e-4)
    assert told["objective"] == pytest.approx(1.0 - 0.5 * told["kl"], rel=1e-5)


def test_the_return_of_the_first_token_is_the_score_less_the_penalty_and_the_kl():
    model = pair(critic_head=0.0)
    value = experience(model, coefficient=0.5, lam=1.0, missing_eos_penalty=0.25)
    moved(model)
    ended = torch.tensor([[True, False]] * 4)
    batch, _ = value(samples(), judged(torch.full((4, 2), 2.0), ended))
    with torch.no_grad(), value.reference() as frozen:
        change = sequence_sums(token_log_probs(model.policy, batch) - token_log_probs(frozen, batch), batch)
    found = batch["returns"][0, [2, 12]].tolist()
    assert found == pytest.approx([2.0 - 0.5 * change[0, 0].item(), 1.75 - 0.5 * change[0, 1].item()], rel=1e-3)


def test_a_score_of_exactly_zero_is_kept_and_a_missing_one_counts_nowhere():
    model = pair()
    scores = torch.tensor([[0.0, math.nan], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    value = experience(model, coefficient=0.0, lam=1.0)
    batch, told = value(samples(), judged(scores))
    assert told["objective"] == pytest.approx(2 / 6)  # six have a score, two of them 1
    valid = CausalLM.targets(batch)
    assert valid[0, 2:9].all() and not valid[0, 9:].any()
    assert batch["returns"][0][valid[0]].abs().max() < 1e-6 and not batch["advantages"][0, 9:].any()
    assert batch["returns"][3][valid[3]].tolist() == pytest.approx([1.0] * 15)


def test_values_behind_the_end_are_zero():
    model = pair()
    batch = samples()
    values = token_values(model.critic, batch)
    valid = CausalLM.targets(batch)
    assert values.shape == (4, 20) and (values[valid] != 0).all() and not values[~valid].any()
    assert not values[1, 9:].any()


def test_a_critic_from_a_reward_model_says_what_that_says_and_one_without_has_no_opinion():
    reward = with_head(small_model(), 0)
    batch = samples()
    valid = CausalLM.targets(batch)
    found = token_values(reward, batch)
    assert torch.equal(
        found[valid], reward.token_scores({"ids": batch["ids"][:, :-1], "segments": batch["segments"][:, :-1]})[valid]
    )
    assert found[valid].std() > 0.01 and not token_values(without_opinion(small_model()), batch).any()


def test_scores_are_normalised_by_the_first_rollout_and_never_again():
    model = pair()
    value = experience(model, coefficient=0.0, lam=1.0, normalise_scores=True, missing_eos_penalty=0.0)
    first = torch.tensor([[10.0, 20.0]] * 4)
    batch, told = value(samples(), judged(first))
    scores = torch.tensor([10.0] * 4 + [20.0] * 3)
    bias, deviation = scores.mean().item(), scores.std(correction=0).item()
    assert value.scale == pytest.approx((bias, 1 / deviation)) and told["objective"] == pytest.approx(bias)
    assert batch["returns"][0, 2].item() == pytest.approx((10 - bias) / deviation, rel=1e-5)
    batch, _ = value(samples(), judged(first * 3))
    assert batch["returns"][0, 2].item() == pytest.approx((30 - bias) / deviation, rel=1e-5)
    other = experience(model, normalise_scores=True)
    other.restore(value.state())
    assert other.state() == value.state()


def test_while_the_critic_warms_up_only_the_critic_has_gradients():
    model = pair()
    value = experience(model, critic_warmup=1)
    batch, _ = value(samples(), judged(torch.ones(4, 2)))
    _, gradients = losses_and_gradients(model, with_text(batch), 2)
    assert {name.split(".")[0] for name in gradients} == {"critic"}
    batch, _ = value(samples(), judged(torch.ones(4, 2)))
    _, gradients = losses_and_gradients(model, batch, 2)
    assert {name.split(".")[0] for name in gradients} == {"critic", "policy"}


def test_equal_frozen_weights_of_two_models_become_one_tensor():
    one, two = small_model().requires_grad_(False), small_model().requires_grad_(False)
    trained = small_model()
    before = two(torch.tensor([[30, 31, 32]]))
    saved = share_frozen(one, two, trained)
    assert saved == sum(p.numel() * 4 for p in one.parameters())
    assert two.embedding is one.embedding and trained.embedding is not one.embedding
    assert torch.equal(two(torch.tensor([[30, 31, 32]])), before)
