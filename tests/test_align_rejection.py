"""Answers of the model's own as data: best of n, and preferences among them while it learns."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from luhuo.align.best_of_n import best_of, conversations, pairs, rankings
from luhuo.align.preference.ranked import read_ranked
from luhuo.core.artifact import Done, produce
from luhuo.core.errors import Interrupted, LuhuoError
from luhuo.core.metrics import MetricsLog
from luhuo.dialogue.layouts import read_conversations
from luhuo.dialogue.preferences import read_preferences
from luhuo.model.save import save
from luhuo.stages import configured
from luhuo.train.trainer import Trainer
from tests.small_chat import small_model

REWARD = "def score(item, text, info):\n    return sum(map(ord, text)) % 7 / 100 - 0.1 * len(text)\n"


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """A model with opinions, prompts, and a reward of the user's own: few letters, and hardly ever a tie."""
    model = small_model()
    with torch.no_grad():  # it ends a good part of its answers
        states = model.hidden(torch.arange(5, 300)[None])[0].mean(0)
        model.embedding[model.tokenizer.end_of_turn_id] = 4 * states / states.square().sum()  # type: ignore[union-attr]
    save(model, tmp_path / "model")
    rows = [{"prompt": question, "id": question} for question in ("hello", "你好", "42", "苹果", "how", "天")]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "reward.py").write_text(REWARD, encoding="utf-8")
    settings = {"model": str(tmp_path / "model"), "prompts": str(tmp_path / "prompts.jsonl")}
    settings |= {
        "rewards": [{"kind": "function", "file": str(tmp_path / "reward.py"), "function": "score"}],
        "max_tokens": 8,
    }
    return settings | {"device": "cpu", "dtype": "fp32", "threads": 1, "at_once": 16}


def run(name: str, given: dict[str, Any], target: Path, **changes: Any) -> Done:
    return produce(name, configured(name, given | changes), target)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def answered(*answers: tuple[str, float | None, bool]) -> dict[str, Any]:
    given = [{"text": text, "score": score, "ended": ended, "tokens": 3} for text, score, ended in answers]
    return {"id": "q", "prompt": [{"role": "user", "content": "?"}], "answers": given}


def test_the_best_finished_answer_is_kept_and_the_worst_is_what_it_is_preferred_to() -> None:
    row = answered(
        ("good", 0.7, True), ("cut", 0.9, False), ("bad", -1.0, False), ("lost", None, True), ("ok", 0.2, True)
    )
    (kept,) = conversations(row, "best", None)
    assert kept["messages"][-1] == {"role": "assistant", "content": "good"} and kept["score"] == 0.7
    assert [one["messages"][-1]["content"] for one in conversations(row, "all", None)] == ["good", "ok"]
    assert list(conversations(row, "best", 0.8)) == []
    (pair,) = pairs(row, None)
    assert (pair["chosen"], pair["rejected"]) == ("good", "bad")
    (ranking,) = rankings(row)
    assert (ranking["answers"], ranking["ranks"]) == (["good", "ok"], [1, 2])
    assert list(pairs(answered(("a", 0.0, True), ("b", 0.0, True)), None)) == []


def test_a_score_of_exactly_zero_is_a_score() -> None:
    row = answered(("zero", 0.0, True), ("none", None, True), ("minus", -0.5, True))
    assert next(conversations(row, "best", 0.0))["score"] == 0.0
    assert next(pairs(row, None))["chosen"] == "zero"


def test_the_expected_best_of_k_is_the_mean_over_all_draws() -> None:
    scores = [0.3, -1.0, 2.0, 0.3, 0.9]
    for k, value in enumerate(best_of(scores), 1):
        assert value == pytest.approx(np.mean([max(draw) for draw in itertools.combinations(scores, k)]))


def test_what_was_sampled_becomes_data_that_the_other_stages_read(given: dict[str, Any], tmp_path: Path) -> None:
    done = run("rejection", given, tmp_path / "best", samples=6)
    assert [len(row["answers"]) for row in rows(done.path / "answers.jsonl")] == [6] * 6
    names = {"conversations.jsonl": read_conversations, "pairs.jsonl": read_preferences, "ranked.jsonl": read_ranked}
    for name, reader in names.items():
        found = list(reader(done.path / name)[1])
        assert len(found) == done.manifest["metrics"][name.removesuffix(".jsonl")]
    curve = [done.manifest["metrics"][f"best_of_{k}"] for k in (1, 2, 4)]
    assert curve == sorted(curve) and curve[0] < curve[2]


def test_sampling_that_was_cut_off_continues_and_ends_alike(given: dict[str, Any], tmp_path: Path) -> None:
    whole = run("rejection", given, tmp_path / "whole", samples=4)
    first = (whole.path / "answers.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    from luhuo.align.best_of_n import run_rejection
    from luhuo.core.artifact import Workspace

    folder = tmp_path / "cut"
    folder.mkdir()
    (folder / "answers.jsonl").write_text("".join(first[:4]) + first[4][:20], encoding="utf-8")
    run_rejection(configured("rejection", given | {"samples": 4}), Workspace(folder, MetricsLog(folder / "m.jsonl")))  # type: ignore[arg-type]
    assert (folder / "answers.jsonl").read_text(encoding="utf-8") == "".join(first)


def test_nothing_good_enough_is_said(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="good enough"):
        run("rejection", given, tmp_path / "none", samples=2, min_score=1000.0)


def online(given: dict[str, Any], target: Path, **changes: Any) -> Done:
    settings = {"steps": 6, "samples": 4, "prompts_per_round": 6, "learning_rate": 2e-4, "checkpoint_every_s": 0}
    return run("online-dpo", given, target, **settings | changes)


def test_online_dpo_raises_the_reward_of_what_is_sampled(given: dict[str, Any], tmp_path: Path) -> None:
    done = online(given, tmp_path / "online", steps=8)
    told = MetricsLog(done.path / "metrics.jsonl").read()
    assert told[0]["loss"] == pytest.approx(0.693147, abs=1e-4)
    first, last = (np.mean([row["reward"] for row in part]) for part in (told[:2], told[-2:]))
    assert last > first + 0.1
    assert {"pairs", "length", "truncated", "rewards.margin"} <= told[0].keys()


def test_online_dpo_that_is_cut_off_ends_with_the_same_bits(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = online(given, tmp_path / "whole")
    step = Trainer._step

    def interrupted(self: Trainer, batch: Any) -> Any:
        metrics = step(self, batch)
        self.stop.asked = self.step == 3
        return metrics

    monkeypatch.setattr(Trainer, "_step", interrupted)
    with pytest.raises(Interrupted):
        online(given, tmp_path / "cut")
    monkeypatch.undo()
    cut = online(given, tmp_path / "cut")
    ours, theirs = (load_file(done.path / "model.safetensors") for done in (whole, cut))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_online_dpo_refuses_more_than_one_step_a_round(given: dict[str, Any]) -> None:
    with pytest.raises(LuhuoError, match="one step a round"):
        configured("online-dpo", given | {"steps": 1, "epochs": 2})
