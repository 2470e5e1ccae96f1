"""Instruction-following difficulty: a ratio of two losses of the same answer, filed under its question and answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from luhuo.align.difficulty import scored
from luhuo.align.difficulty_stages import DifficultyStage
from luhuo.core.artifact import produce
from luhuo.dialogue.clean.samples import key_of, read_samples
from luhuo.dialogue.clean.selection import read_difficulty
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.render import render
from luhuo.inference.engine import Engine
from luhuo.model.save import save
from tests.small_chat import small_model

ROWS = [("hello world?", "how are you today"), ("你好", "今天天气很好"), ("the answer", "42"), ("empty", "")]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    rows = ({"instruction": question, "output": answer} for question, answer in ROWS)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_it_is_the_loss_behind_the_question_divided_by_that_of_the_answer_alone(data: Path) -> None:
    model = small_model()
    engine = Engine(model)
    rows = scored(engine, list(read_samples(data, lambda _: None)[1]), 512)
    for (question, answer), row in zip(ROWS[:3], rows, strict=False):
        ids = engine.tokenizer.encode(answer)
        asked = render(
            Conversation.of([{"role": "user", "content": question}]), engine.tokenizer, generation_prompt=True
        )
        one, other = (
            -engine.loglikelihood([(prompt, ids)])[0][0] for prompt in (asked.ids, [engine.tokenizer.eos_id])
        )
        assert row["ifd"] == pytest.approx(one / other, rel=1e-3)
        assert row["key"] == key_of(question, answer)
    assert rows[3]["ifd"] is None


def test_the_stage_writes_scores_that_choosing_can_read(data: Path, tmp_path: Path) -> None:
    save(small_model(), tmp_path / "model")
    stage = DifficultyStage.parse(
        {"model": str(tmp_path / "model"), "data": [str(data)], "together": 2, "device": "cpu"}
    )
    done = produce("difficulty", stage, tmp_path / "out")
    known = read_difficulty(done.path)
    assert set(known) == {key_of(*row) for row in ROWS[:3]}
    assert all(value > 0 for value in known.values())
    assert done.manifest["metrics"]["rows.scored"] == 3
