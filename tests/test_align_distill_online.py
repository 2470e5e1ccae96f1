"""On-policy distillation: the student's own answers, read by the teacher; resumed exactly, the same for any split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from luhuo.align.distill.minillm import MiniLLM
from luhuo.align.distill.on_policy import FutureRatios, TeacherScores
from luhuo.align.distill.teacher import Teacher
from luhuo.align.log_probs import token_log_probs
from luhuo.align.rollout_rows import lay_out
from luhuo.core.artifact import Done, produce
from luhuo.core.digest import path_digest
from luhuo.core.errors import Interrupted, LuhuoError
from luhuo.core.metrics import MetricsLog
from luhuo.model.save import save
from luhuo.stages import configured
from luhuo.train.gradients import Gradients
from luhuo.train.objective import Batch, CausalLM
from luhuo.train.ranks import Ranks
from luhuo.train.trainer import Trainer
from tests.distill_cases import student_model, teacher_model
from tests.parallel_cases import together
from tests.preference_cases import same_step
from tests.rl_cases import CPU, made_up
from tests.small_chat import small_tokenizer


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """A student, a teacher, prompts, and conversations."""
    save(student_model(), tmp_path / "student")
    save(teacher_model(), tmp_path / "teacher")
    prompts = [{"messages": [{"role": "user", "content": f"say {n}"}]} for n in range(8)]
    for row, name in ((prompts, "prompts"), ([given_turns(n) for n in range(12)], "data")):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in row), encoding="utf-8")
    paths = {"model": "student", "teacher": "teacher", "prompts": "prompts.jsonl"}
    return {name: str(tmp_path / path) for name, path in paths.items()} | {
        "steps": 4,
        "prompts_per_round": 4,
        "samples": 2,
        "max_tokens": 8,
        "learning_rate": 3e-3,
        "dtype": "fp32",
        "device": "cpu",
        "threads": 1,
        "checkpoint_every_s": 0,
        "data_length": 64,
        "data_batch": 128,
    }


def given_turns(number: int) -> dict[str, Any]:
    turns = [{"role": "user", "content": f"say {number}"}, {"role": "assistant", "content": f"{number} world"}]
    return {"messages": turns}


def run(given: dict[str, Any], target: Path, **changes: Any) -> Done:
    return produce("online-distill", configured("online-distill", given | changes), target)


def lines(done: Done) -> list[dict[str, Any]]:
    return [row for row in MetricsLog(done.path / "metrics.jsonl").read() if "divergence" in row]


@pytest.mark.parametrize(("method", "share"), [("gkd", 0.9), ("minillm", 0.985)])
def test_the_student_comes_closer_to_its_teacher_on_its_own_answers(
    method: str, share: float, given: dict[str, Any], tmp_path: Path
) -> None:
    before = path_digest(tmp_path / "teacher")
    done = run(given, tmp_path / "out", method=method, steps=14, prompts_per_round=8, valid=given["prompts"])
    told = lines(done)
    first, last = (np.mean([row["divergence"] for row in part]) for part in (told[:3], told[-3:]))
    assert last < share * first
    assert all(row["reward"] < 0 for row in told)
    assert {"length", "truncated", "time.generate", "time.update", "reward_deviation"} <= told[0].keys()
    assert {"valid.reward", "divergence"} <= done.manifest["metrics"].keys()
    assert path_digest(tmp_path / "teacher") == before


def test_gkd_takes_the_given_share_of_its_steps_on_its_own_answers(given: dict[str, Any], tmp_path: Path) -> None:
    data = str(tmp_path / "data.jsonl")
    told = lines(run(given, tmp_path / "out", data=data, on_policy=0.5, steps=10))
    own = [row["on_policy"] for row in told]
    assert 2 <= sum(own) <= 8
    assert all(("reward" in row) == bool(row["on_policy"]) for row in told)


CASES: dict[str, dict[str, Any]] = {
    "gkd": {"on_policy": 0.5, "data": "data.jsonl", "minibatches": 2, "steps": 6},
    "minillm": {"data": "data.jsonl", "minibatches": 2, "epochs": 2, "steps": 6},
    "gkd with an adapter": {"adapter": {"method": "lora", "rank": 2}, "divergence": "reverse"},
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_is_cut_off_ends_with_the_same_bits(
    name: str, given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"method": name.split()[0]} | CASES[name]
    if "data" in changes:
        changes["data"] = str(tmp_path / changes["data"])
    whole = run(given, tmp_path / "whole", **changes)
    step = Trainer._step

    def interrupted(self: Trainer, batch: Any) -> Any:
        metrics = step(self, batch)
        self.stop.asked = self.step == 3
        return metrics

    monkeypatch.setattr(Trainer, "_step", interrupted)
    with pytest.raises(Interrupted):
        run(given, tmp_path / "cut", **changes)
    monkeypatch.undo()
    cut = run(given, tmp_path / "cut", **changes)
    file = "adapter_model.safetensors" if "adapter" in changes else "model.safetensors"
    ours, theirs = (load_file(done.path / file) for done in (whole, cut))
    assert all(torch.equal(ours[tensor], theirs[tensor]) for tensor in ours)
    assert [row["loss"] for row in lines(whole)] == [row["loss"] for row in lines(cut)]


def valued(rank: int = 0, world: int = 1) -> Batch:
    """Made-up answers with what MiniLLM reads, and text beside them."""
    some = made_up(observed=False)
    scores = TeacherScores(Teacher(teacher_model()), small_tokenizer().pad_id, 1.0)
    scores([one.sample for one in some])
    batch, judged, _ = lay_out([some], small_tokenizer().pad_id, CPU)
    batch = FutureRatios(moved(), scores)(batch, judged)[0]
    text = {f"text_{name}": batch[name].flip(0) for name in ("ids", "segments", "mask")}
    return {name: tensor[rank::world] for name, tensor in (batch | text).items()}


def moved() -> Any:
    """The student as it was when it answered."""
    model = student_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1.02
    return model


def step(batch: Batch, rows: int = 0) -> Any:
    """Gradients, and mean loss and metrics, of one step of MiniLLM."""
    model, objective = student_model().train(), MiniLLM(Teacher(teacher_model()), text=0.3)
    batch = objective.prepare(model, batch)
    ranks = Ranks()
    work = Gradients(model, objective, ranks, rows)
    weight, total = work.compute(batch, 1)
    work.reduce(0)
    means = {name: (ranks.sum(value) / weight).item() for name, value in total.items()}
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, means


def test_a_token_answers_for_the_mean_ratio_of_what_comes_behind_it() -> None:
    batch, teacher, old = valued(), teacher_model(), moved()
    ratios = token_log_probs(teacher, batch) - token_log_probs(old, batch)
    valid, segments = CausalLM.targets(batch), batch["segments"][:, 1:]
    checked = 0
    for row in range(len(valid)):
        for number in range(1, int(segments[row].max()) + 1):
            places = torch.nonzero(valid[row] & (segments[row] == number))[:, 0]
            for i, place in enumerate(places):
                behind = ratios[row, places[i + 1 :]]
                wanted = behind.mean() if len(behind) else torch.tensor(0.0)
                torch.testing.assert_close(batch["advantages"][row, place], wanted, rtol=1e-3, atol=1e-4)
                checked += 1
    assert checked > 30 and not batch["advantages"][~valid].any()


def test_minillm_is_its_formula() -> None:
    batch = {name: tensor for name, tensor in valued().items() if not name.startswith("text")}
    student, teacher = student_model().train(), teacher_model()
    valid = CausalLM.targets(batch)
    read = {"segments": batch["segments"][:, :-1]}
    q = student(batch["ids"][:, :-1], **read)[valid].log_softmax(-1)
    with torch.no_grad():
        p = teacher(batch["ids"][:, :-1], **read)[valid].log_softmax(-1)
    ratio = (q.gather(1, batch["ids"][:, 1:][valid][:, None])[:, 0] - batch["old_log_probs"][valid]).exp()
    worth = batch["advantages"][valid]
    policy = -torch.minimum(ratio * worth, ratio.clamp(0.8, 1.2) * worth)
    wanted = (policy + (q.exp() * (q - p)).sum(-1)).mean()
    wanted.backward()
    gradients, means = step(batch)
    assert means["loss"] == pytest.approx(wanted.item(), rel=1e-4)
    for name, parameter in student.named_parameters():
        assert parameter.grad is not None
        bound = 1e-4 * float(parameter.grad.abs().max())
        assert torch.allclose(gradients[name], parameter.grad, rtol=1e-3, atol=bound), name


def test_a_step_is_the_same_for_any_split_and_two_processes(tmp_path: Path) -> None:
    batch = valued()
    assert len(batch["ids"]) >= 4
    whole = step(batch)
    for parts in (2, 4):
        assert same_step(step(batch, -(-len(batch["ids"]) // parts)), whole)
    together(2, write_step, tmp_path)
    found = load_file(tmp_path / "step")
    means = {name.removeprefix("mean "): found.pop(name).item() for name in list(found) if name.startswith("mean ")}
    assert same_step((found, means), whole)


def write_step(rank: int, folder: Path) -> None:
    """The step of one of two processes, written by the first."""
    gradients, means = step(valued(rank, 2))
    if rank == 0:
        numbers = {f"mean {name}": torch.tensor(value) for name, value in means.items()}
        save_file({name: value.contiguous() for name, value in (gradients | numbers).items()}, folder / "step")


def test_a_student_that_is_its_teacher_scores_nothing() -> None:
    some = made_up(observed=False)
    model = student_model()
    batch, _, _ = lay_out([some], small_tokenizer().pad_id, CPU)
    said = token_log_probs(model, {name: batch[name] for name in ("ids", "segments", "mask")})
    for row, numbers in enumerate(batch["segments"][:, 1:]):
        for one in some:
            for number in range(1, int(numbers.max()) + 1):
                places = torch.nonzero(batch["segments"][row] == number)[:, 0]
                if batch["ids"][row, places].tolist() == one.sample.ids:
                    one.sample.log_probs = [0.0, *said[row, places[1:] - 1].tolist()]
    scores = TeacherScores(Teacher(model), small_tokenizer().pad_id, 1.0)([one.sample for one in some]).scores
    assert scores == pytest.approx([0.0] * len(some), abs=1e-5)


def test_settings_that_cannot_work_are_refused(given: dict[str, Any]) -> None:
    for changes, told in (
        ({"on_policy": 0.5}, "go together"),
        ({"shuffle_rewards": True}, "nothing is learned from rewards"),
        ({"environment": "x.py"}, "single answers"),
        ({"parallel": {"fsdp": 2}}, "parallel.dp"),
    ):
        with pytest.raises(LuhuoError, match=told):
            configured("online-distill", given | changes)
