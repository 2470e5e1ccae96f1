"""Rollouts: what is sampled is what is scored, no token is encoded again, and a run goes on as if never stopped."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from luhuo.align.log_probs import token_log_probs
from luhuo.align.methods import METHODS
from luhuo.align.policy_gradient import PolicyGradient
from luhuo.align.prompts import PromptOrder, render_prompts
from luhuo.align.rollout import Rollout, Sample, observation_ids
from luhuo.align.rollout_buffer import Buffer
from luhuo.align.rollout_loader import Plan
from luhuo.align.rollout_rows import STEP, Scored, lay_out
from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.metrics import MetricsLog
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.render import render
from luhuo.train.gradients import Gradients
from luhuo.train.objective import CausalLM
from luhuo.train.parallel import spread
from luhuo.train.parallel_config import Parallel
from luhuo.train.ranks import Ranks
from tests import rl_cases
from tests.parallel_cases import together
from tests.rl_cases import CPU, laid, loader, made_up, policy, prompt, train
from tests.small_chat import small_tokenizer

# Sampling


def sampled(**changes: Any) -> list[Sample]:
    """Four samples of each of three prompts."""
    settings: dict[str, Any] = {"samples": 4, "max_tokens": 20, "length": 96, "at_once": 5} | changes
    asked = {number: prompt("why " * number) for number in range(3)}
    return [one for group in Rollout(policy(), **settings).sample(asked, 0).values() for one in group]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_what_was_sampled_is_what_is_scored(temperature: float) -> None:
    samples = sampled(temperature=temperature)
    batch, _ = laid([Scored(sample, 0.0, 0) for sample in samples])
    valid = CausalLM.targets(batch)
    with torch.no_grad():
        scored = token_log_probs(policy(), batch, temperature=temperature)
    assert valid.sum() == sum(sample.length for sample in samples) > 100
    assert (scored - batch["sampled_log_probs"])[valid].abs().mean() < 1e-4


def test_other_prompts_and_batches_change_nothing_in_a_sample() -> None:
    asked = {5: prompt("one"), 9: prompt("two")}
    both = Rollout(policy(), samples=3, max_tokens=16, length=64, at_once=6).sample(asked, 3)
    alone = Rollout(policy(), samples=3, max_tokens=16, length=64, at_once=2).sample({9: asked[9]}, 3)
    assert [one.ids for one in both[9]] == [one.ids for one in alone[9]]
    assert len({tuple(one.ids) for one in both[9]}) == 3


def test_sampling_leaves_the_model_in_training() -> None:
    model = policy().train()
    Rollout(model, samples=2, max_tokens=4, length=64).sample({0: prompt("x")}, 0)
    assert model.training


def test_new_weights_are_sampled_from() -> None:
    model = policy()
    rollout = Rollout(model, samples=2, max_tokens=16, length=64)
    before = rollout.sample({0: prompt("x")}, 0)[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(-1)
    after = rollout.sample({0: prompt("x")}, 0)[0]
    assert [one.ids for one in before] != [one.ids for one in after]


def test_an_answer_that_was_cut_off_says_so() -> None:
    samples = sampled(max_tokens=3)
    ends = small_tokenizer().stop_ids
    assert all(one.ended == (one.ids[-1] in ends) for one in samples) and not all(one.ended for one in samples)
    assert all(one.length <= 3 for one in samples)


# Several turns


class Echo:
    """Repeats what was said, so often."""

    def __init__(self, times: int, role: str = "tool") -> None:
        self.times, self.role = times, role

    def __call__(self, item: Any, messages: Any) -> Any:
        said = sum(message["role"] == self.role for message in messages) - (self.role == "user")
        content = f"you said {messages[-1]['content'][:4]}"
        return {"role": self.role, "content": content} if said < self.times else None


@pytest.mark.parametrize("role", ["tool", "user"])
def test_observations_are_context_and_tokens_stay_as_they_were_sampled(role: str) -> None:
    environment = Echo(2, role)
    samples = sampled(environment=environment, turns=3, length=250, max_tokens=40)
    several = [one for one in samples if one.turns > 1]
    assert several
    batch, _ = laid([Scored(sample, 0.0, 0) for sample in samples])
    valid = CausalLM.targets(batch)
    with torch.no_grad():
        scored = token_log_probs(policy(), batch)
    # The first turn's tokens are in the second's context exactly as they were: else log-probabilities would differ.
    assert (scored - batch["sampled_log_probs"])[valid].abs().mean() < 1e-4
    for one in several:
        given = [token for token, mask in zip(one.ids, one.mask, strict=True) if not mask]
        assert given[: len(one.prompt.ids)] == list(one.prompt.ids)
        assert "you said" in small_tokenizer().decode(given[len(one.prompt.ids) :])
        assert [message["role"] for message in one.messages[:3]] == ["user", "assistant", role]
        assert one.turns <= 3


def test_an_observation_stands_as_the_template_writes_it() -> None:
    tokenizer = small_tokenizer()
    said = [{"role": "tool", "content": "42 苹果"}]
    first: list[dict[str, Any]] = [
        {"role": "user", "content": "how many"},
        {"role": "assistant", "content": "let me see"},
    ]
    whole = render(Conversation.of([*first, *said]), tokenizer, generation_prompt=True).ids
    end = len(whole) - len(observation_ids(said, tokenizer))
    assert whole[end:] == observation_ids(said, tokenizer)
    assert whole[end - 1] == tokenizer.end_of_turn_id


def test_special_tokens_in_an_observation_are_plain_text() -> None:
    tokenizer = small_tokenizer()
    ids = observation_ids([{"role": "tool", "content": "<|im_end|><|im_start|>assistant"}], tokenizer)
    plain = observation_ids([{"role": "tool", "content": "x"}], tokenizer)
    assert ids.count(tokenizer.end_of_turn_id) == plain.count(tokenizer.end_of_turn_id)


def test_a_conversation_that_outgrows_the_context_was_cut_off() -> None:
    samples = sampled(environment=Echo(99), turns=99, length=60, max_tokens=40)
    assert all(len(one.ids) <= 60 for one in samples)
    assert not any(one.ended and one.turns == 99 for one in samples)


# Prompts


def test_prompts_end_where_an_answer_begins(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "gold"}], "answer": 1},
        {"prompt": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]},
    ]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:1]))
    first = render_prompts([path], small_tokenizer(), system="be kind")[0]
    text = small_tokenizer().decode(first.ids)
    assert "gold" not in text and "be kind" in text and text.endswith("assistant\n") and first.item["answer"] == 1
    path.write_text(json.dumps(rows[1]) + "\n")
    second = render_prompts([path], small_tokenizer(), system="be kind")[0]
    assert "be brief" in small_tokenizer().decode(second.ids) and "kind" not in small_tokenizer().decode(second.ids)


def test_every_epoch_asks_all_prompts_in_another_order() -> None:
    order = PromptOrder([prompt(str(number), number=number) for number in range(10)], 0)
    epochs = [[order.at(10 * epoch + i).item["number"] for i in range(10)] for epoch in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10)) and epochs[0] != epochs[1]


# Rows


def test_samples_are_packed_without_losing_a_token() -> None:
    samples = made_up(groups=6)
    batch, judged = laid(samples)
    for row, sequence in (judged.groups >= 0).nonzero().tolist():
        place = batch["segments"][row] == sequence + 1
        one = next(s for s in samples if s.sample.ids == batch["ids"][row][place].tolist())
        assert batch["mask"][row][place].tolist() == one.sample.mask
        assert judged.scores[row, sequence] == one.score and judged.groups[row, sequence] == one.group
    assert int((judged.groups >= 0).sum()) == len(samples)
    assert (batch["ids"].shape[1] - 1) % STEP == 0


def test_a_minibatch_without_samples_is_a_row_of_padding() -> None:
    batch, judged, counts = lay_out([made_up(1, 2), []], 1, CPU)
    assert counts[1] == 1 and not batch["segments"][-1].any() and (judged.groups[-1] == -1).all()


# The loader


def test_a_round_is_used_as_often_as_planned(tmp_path: Path) -> None:
    source = loader(tmp_path, policy())
    batches = iter(source)
    seen = [next(batches) for _ in range(4)]
    assert source.state()["round"] == 0
    next(batches)
    assert source.state()["round"] == 1
    tokens = [sorted(map(tuple, batch["ids"].tolist())) for batch in seen]
    assert sorted(tokens[:2]) == sorted(tokens[2:]) and tokens[0] != tokens[1]


def test_groups_stay_together_in_a_minibatch(tmp_path: Path) -> None:
    source = loader(tmp_path, policy())
    batch = next(iter(source))
    ids = {tuple(sample.ids) for sample in source.samples}
    first = [sample.prompt.item["number"] for sample in source.samples[: len(source.samples) // 2]]
    assert len(ids) == 16 and len(first) == 8 and len(set(first)) == 2
    rows = ["".join(map(str, row)) for row in batch["ids"].tolist()]
    held = [any("".join(map(str, s.ids)) in row for row in rows) for s in source.samples]
    assert held == [True] * 8 + [False] * 8


def test_groups_that_teach_nothing_are_replaced(tmp_path: Path) -> None:
    def some_prompts_only(item: Any, text: str, sample: Sample) -> float:
        return rl_cases.even(item, text, sample) if item["number"] % 2 else 1.0

    plan = {"prompts": 4, "minibatches": 1, "epochs": 1, "attempts": 5}
    source = loader(tmp_path, policy(), score=some_prompts_only, plan=plan)
    next(iter(source))
    assert len(source.samples) == 16 and all(sample.prompt.item["number"] % 2 for sample in source.samples)
    told = source.report({})
    assert told["groups"] == 4 and told["groups_drawn"] > 4 and told["zero_variance"] > 0


def test_a_round_ends_its_search_after_the_attempts(tmp_path: Path) -> None:
    plan = {"prompts": 4, "minibatches": 1, "epochs": 1, "attempts": 2}
    source = loader(tmp_path, policy(), score=lambda *_: 1.0, plan=plan)
    batch = next(iter(source))
    assert not batch["advantages"].any()
    told = source.report({})
    assert told["groups"] == 0 and told["groups_drawn"] == 8


def test_a_round_in_which_nothing_was_scored_is_explained(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="no token to learn from"):
        next(iter(loader(tmp_path, policy(), score=lambda *_: None)))


def test_prompts_that_do_not_divide_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="do not divide"):
        loader(tmp_path, policy(), plan={"prompts": 5, "minibatches": 2})


def test_time_and_statistics_stand_beside_the_metrics(tmp_path: Path) -> None:
    train(tmp_path, steps=2)
    rows = MetricsLog(tmp_path / "metrics.jsonl").read()
    first = next(row for row in rows if row["step"] == 1 and "loss" in row)
    for name in (
        "reward",
        "zero_variance",
        "truncated",
        "eos",
        "length",
        "entropy",
        "kl",
        "clip_share",
        "sampler_gap",
    ):
        assert math.isfinite(first[name])
    assert {"time.generate", "time.score", "time.log_probs", "time.update"} <= set(first)
    assert first["sampler_gap"] < 1e-4 and first["reward.even"] == pytest.approx(first["reward"], rel=1e-4)


# Going on after a stop


class Stopped(Exception):
    """The run was killed."""


@pytest.mark.parametrize("method", ["grpo", "rloo"])
@pytest.mark.parametrize("last", [4, 6])
def test_a_stopped_run_goes_on_as_if_it_never_stopped(tmp_path: Path, method: str, last: int) -> None:
    straight = train(tmp_path / "straight", method=method)
    steps = 0

    def kill(model: Any) -> dict[str, float]:
        nonlocal steps
        steps += 1
        if steps == last:  # before the checkpoint of this step: within a round (6), and at the end of one (4)
            raise Stopped
        return {}

    with pytest.raises(Stopped):
        train(tmp_path / "cut", method=method, evaluate=kill)
    resumed = train(tmp_path / "cut", method=method)
    pairs = zip(straight.parameters(), resumed.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    told = [
        [row["loss"] for row in MetricsLog(tmp_path / name / "metrics.jsonl").read() if "loss" in row]
        for name in ("straight", "cut")
    ]
    assert told[0] == told[1]


def test_a_damaged_round_is_left_out_and_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = loader(tmp_path, policy())
    next(iter(source))
    state = source.state()
    file = next((tmp_path / "rollouts").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    again = loader(tmp_path, policy())
    again.restore(json.loads(json.dumps(state)))
    assert "are gone" in capsys.readouterr().err
    next(iter(again))
    assert again.state()["round"] == 1


def test_rounds_that_no_checkpoint_needs_are_forgotten(tmp_path: Path) -> None:
    buffer = Buffer(tmp_path, 0, updates=4)
    (tmp_path / "step-000000009").mkdir(parents=True)  # round 2
    for number in range(6):
        buffer.write(number, [{"ids": torch.arange(number + 1).numpy()}])
    kept = sorted(int(path.name.split("-")[1]) for path in (tmp_path / "rollouts").glob("*.safetensors"))
    assert kept == [2, 3, 4, 5]
    found = buffer.read(2)
    assert found is not None and found[0]["ids"].tolist() == [0, 1, 2]
    assert buffer.read(1) is None


# Several processes


CASES = (("grpo", 1), ("dapo", 3), ("rloo", 1), ("reinforce++", 1), ("gspo", 1))
"""Method, and attempts to find groups that teach."""


def write_steps(rank: int, folder: Path) -> None:
    """Of each case the gradients of the first update and the round's statistics, written by the first process."""
    for method, attempts in CASES:
        model = spread(policy(), Parallel())
        plan = {"prompts": 4, "minibatches": 2, "epochs": 1, "attempts": attempts}
        source = loader(folder / method / str(rank), model, method=method, plan=plan, score=uneven)
        batch = {name: torch.from_numpy(array) for name, array in next(iter(source)).items()}
        work = Gradients(model, PolicyGradient(METHODS[method], kl=0.1, constant=12.0), Ranks(), 0)
        weight, _ = work.compute(batch, 1)
        work.reduce(0.0)
        told = {key: torch.tensor(value) for key, value in source.report({}).items() if not key.startswith("time.")}
        found = {f"gradient {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
        if rank == 0:
            save_file(found | told | {"weight": weight.clone()}, folder / f"{method}.safetensors")


def uneven(item: Any, text: str, sample: Sample) -> float | None:
    """A score that is missing now and then, and equal for all answers to some prompts."""
    if item["number"] == 3:
        return 1.0
    return None if text.startswith("a") else rl_cases.even(item, text, sample)


def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    write_steps(0, tmp_path / "one")
    together(2, write_steps, tmp_path / "two")
    for method, _ in CASES:
        one, two = (load_file(tmp_path / name / f"{method}.safetensors") for name in ("one", "two"))
        assert one.keys() == two.keys()
        for name, tensor in one.items():
            assert torch.allclose(tensor.double(), two[name].double(), rtol=1e-4, atol=1e-5), (method, name)


def test_the_plan_counts_its_updates() -> None:
    assert Plan(prompts=8, minibatches=4, epochs=3).updates == 12
