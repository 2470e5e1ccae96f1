"""Fine-tuning on conversations: it learns, it refuses what cannot work, it resumes exactly, its control holds."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from luhuo.align.sft import Rules, Source, prepare, shuffle_answers
from luhuo.align.stages import SftStage
from luhuo.core.artifact import Workspace, produce
from luhuo.core.errors import Interrupted, LuhuoError
from luhuo.core.metrics import MetricsLog
from luhuo.dialogue.conversation import Conversation
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from luhuo.model.load import load
from luhuo.model.save import save
from tests.small_chat import small_model, small_tokenizer, with_template

PAIRS = [("hello", "world, hello"), ("你好", "你好，世界。"), ("how are you", "很好"), ("苹果", "the answer is 42")]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"prompt": question, "completion": answer} for question, answer in pairs]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    save(small_model(opinionated=False), tmp_path / "base")
    return tmp_path / "base"


def stage_of(base: Path, data: Path, **changes: Any) -> SftStage:
    settings: dict[str, Any] = {
        "steps": 60,
        "batch": 512,
        "length": 128,
        "learning_rate": 0.01,
        "dtype": "fp32",
        "device": "cpu",
    }
    settings["threads"] = 1
    return SftStage.parse({"model": str(base), "data": str(data)} | settings | changes)


def prepared_of(path: Path, tokenizer=None, length: int = 128, **options: Any):
    rejected: list[Any] = []
    rules = Rules(length, **options)
    prepared = prepare([Source([path])], tokenizer or small_tokenizer(), rules, quarantine=rejected.append)
    return prepared, rejected


def test_a_tiny_model_memorises_four_conversations_and_stops_by_itself(base: Path, tmp_path: Path):
    done = produce("sft", stage_of(base, write(tmp_path / "x.jsonl", rows_of(PAIRS))), tmp_path / "assistant")
    engine = Engine(load(done.path, dtype="fp32", device="cpu"))
    questions = [[{"role": "user", "content": question}] for question, _ in PAIRS]
    outs = engine.chat(questions, Sampling(temperature=0, max_tokens=40))
    assert [(out.text, out.finish_reason) for out in outs] == [(answer, "stop") for _, answer in PAIRS]
    results = done.manifest["metrics"]
    assert results["loss"] < 0.05 and results["conversations"] == 4
    expected = sum(len(small_tokenizer().encode(answer)) + 1 for _, answer in PAIRS)
    assert results["supervised_tokens"] == expected
    assert done.manifest["sources"][0]["name"] == "x.jsonl"


def test_held_out_loss_is_that_of_its_supervised_tokens(base: Path, tmp_path: Path):
    data, valid = (write(tmp_path / f"{name}.jsonl", rows_of(PAIRS)) for name in ("train", "valid"))
    done = produce("sft", stage_of(base, data, steps=8, valid=str(valid), eval_every=4), tmp_path / "assistant")
    scores = [row for row in MetricsLog(done.path / "metrics.jsonl").read() if "valid.loss" in row]
    assert [row["step"] for row in scores] == [4, 8]
    engine = Engine(load(done.path, dtype="fp32", device="cpu"))
    pairs = []
    for question, answer in PAIRS:
        prompt = engine.prompt_ids(Conversation.of([{"role": "user", "content": question}]))
        pairs.append((prompt, [*small_tokenizer().encode(answer), small_tokenizer().end_of_turn_id]))
    expected = -sum(score for score, _ in engine.loglikelihood(pairs)) / sum(len(answer) for _, answer in pairs)
    assert done.manifest["metrics"]["valid.loss"] == pytest.approx(expected, rel=1e-3)


def test_an_interrupted_run_continues_to_the_very_same_weights(base: Path, tmp_path: Path, monkeypatch):
    from luhuo.train.trainer import Trainer

    data = write(tmp_path / "x.jsonl", rows_of(PAIRS * 5))
    stage = stage_of(base, data, steps=12, batch=256, checkpoint_every=1)
    whole = produce("sft", stage, tmp_path / "whole")
    step = Trainer._step

    def interrupted(self: Trainer, *args: Any) -> dict[str, float]:
        metrics = step(self, *args)
        self.stop.asked = self.step == 5
        return metrics

    monkeypatch.setattr(Trainer, "_step", interrupted)
    with pytest.raises(Interrupted):
        produce("sft", stage, tmp_path / "cut")
    monkeypatch.undo()
    cut = produce("sft", stage, tmp_path / "cut")
    ours, theirs = (load_file(done.path / "model.safetensors") for done in (whole, cut))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    steps = [row["step"] for row in MetricsLog(cut.path / "metrics.jsonl").read()]
    assert steps == list(range(1, 13))
    assert not list(cut.path.glob(".checkpoint*"))


def test_training_without_a_supervised_token_is_refused(tmp_path: Path):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "train": False}]
    with pytest.raises(LuhuoError, match="No token is supervised") as caught:
        prepared_of(write(tmp_path / "x.jsonl", [{"messages": turns}]))
    assert "openai" in str(caught.value.where) and "no_target 1" in str(caught.value.where)


def test_training_that_never_shows_the_end_of_a_turn_is_refused(tmp_path: Path):
    tokenizer = with_template("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    with pytest.raises(LuhuoError, match="never stop") as caught:
        prepared_of(write(tmp_path / "x.jsonl", rows_of(PAIRS)), tokenizer)
    assert caught.value.expected == "<|im_end|>" and "prompt-completion" in str(caught.value.where)


def test_every_row_is_accounted_for(tmp_path: Path):
    long = [
        turn
        for i in range(9)
        for turn in ({"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "a"})
    ]
    only = [{"role": "user", "content": "x" * 300}, {"role": "assistant", "content": "y"}]
    empty = [{"role": "user", "content": "x"}, {"role": "assistant", "content": " "}]
    good = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    path = write(tmp_path / "x.jsonl", [{"messages": m} for m in (good, long, only, empty, good[::-1])])
    prepared, rejected = prepared_of(path)
    assert prepared.counts == Counter(read=4, used=2, truncated=1, too_long=1, empty_answer=1, broken=1)
    assert len(prepared.store) == 2 and prepared.store.lengths().max() <= 129
    assert {row.reason.split(":")[0] for row in rejected} == {"empty_answer", "role_order"}
    dropped, _ = prepared_of(path, overlong="drop")
    assert dropped.counts["too_long"] == 2 and len(dropped.store) == 1


def test_shuffled_answers_keep_the_answers_of_a_group_and_lose_the_mapping():
    conversations = [
        Conversation.of(
            [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"}],
            family="fact" if i < 10 else "sum",
            lang="en",
        )
        for i in range(21)
    ]
    counts: Counter[str] = Counter()
    shuffled = shuffle_answers(conversations, 3, counts)
    answers = [c.messages[-1].content for c in shuffled]
    assert [c.messages[0].content for c in shuffled] == [f"q{i}" for i in range(21)]
    assert sorted(answers[:10]) == sorted(f"a{i}" for i in range(10))
    assert all(answer != f"a{i}" for i, answer in enumerate(answers))
    assert counts == Counter(shuffled=21)
    assert [c.messages[-1].content for c in shuffle_answers(conversations, 3)] == answers
    assert [c.messages[-1].content for c in shuffle_answers(conversations, 4)] != answers


def test_every_answer_of_a_conversation_is_exchanged_and_stays_a_target_of_the_control():
    conversations = [
        Conversation.of(
            [
                {"role": role, "content": f"{role}{i}{turn}", "train": turn > 0}
                for turn in range(3)
                for role in ("user", "assistant")
            ],
            family="reading",
        )
        for i in range(20)
    ]
    counts: Counter[str] = Counter()
    shuffled = shuffle_answers(conversations, 0, counts)
    before, after = ([m for c in group for m in c.messages if m.is_target] for group in (conversations, shuffled))
    assert sorted(m.content for m in before) == sorted(m.content for m in after) and counts == Counter(shuffled=40)
    assert not any(a == b for a, b in zip(before, after, strict=True))
    for old, new in zip(conversations, shuffled, strict=True):
        assert [m for m in old.messages if not m.is_target] == [m for m in new.messages if not m.is_target]


def test_rows_longer_than_the_model_s_context_are_refused(base: Path, tmp_path: Path):
    data = write(tmp_path / "x.jsonl", rows_of(PAIRS))
    out = Workspace(tmp_path, MetricsLog(tmp_path / "metrics.jsonl"))
    with pytest.raises(LuhuoError, match="longer than the model's context"):
        stage_of(base, data, length=512).run(out)


def test_the_stage_module_does_not_import_torch():
    import subprocess
    import sys

    code = "import luhuo.align.stages, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
