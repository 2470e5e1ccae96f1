"""How replies and likelihoods of a task become scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from luhuo.core.atomic import write_text
from luhuo.core.errors import LuhuoError
from luhuo.evaluation.item_scores import extract, normalised, scored
from luhuo.evaluation.tasks import catalogue
from luhuo.evaluation.tasks.documents import Document
from luhuo.evaluation.tasks.requests import Asked
from tests.evaluation_cases import WRITING, data, run, task_file
from tests.small_chat import small_model


def test_all_normalisations_come_from_one_pass_and_can_disagree(tmp_path: Path) -> None:
    task = catalogue.task(str(task_file(tmp_path)))
    document = Document("q", {})
    asked = Asked(document, ("?",), (" 是", " yes it is"), ("是", "yes it is"), (1, 0))
    outcome = {"totals": [-4.0, -6.0], "tokens": [4, 2], "greedy": [False, False], "alone": [-1.0, -9.0]}
    found = scored(task, asked, outcome)["scores"]
    assert found["acc"] == 1.0  # -4 > -6
    assert found["acc_norm"] == 0.0  # -4 / 1 < -6 / 9
    assert found["acc_bytes"] == 0.0  # -4 / 3 < -6 / 9
    assert found["acc_tokens"] == 1.0  # -4 / 4 > -6 / 2
    assert found["acc_mutual_info"] == 0.0  # -4 + 1 < -6 + 9
    assert found["mass"] == pytest.approx(1 / (1 + 2.718281828**-2.0))


def test_mutual_information_subtracts_the_choice_without_its_question(tmp_path: Path) -> None:
    model = small_model(max_positions=1024)
    found = run(model, task_file(tmp_path), data(tmp_path), mutual_information=True)
    assert "acc_mutual_info" in found.summary["metrics"]
    assert "acc_mutual_info" not in run(model, task_file(tmp_path), data(tmp_path)).summary["metrics"]


def gsm8k(reply: str, gold: str) -> dict[str, Any]:
    task = catalogue.task("gsm8k")
    asked = Asked(Document("q", {}), ("?",), reference=gold)
    return scored(task, asked, {"outputs": [reply], "reasons": ["stop"], "lengths": [3]})


def test_gold_answers_of_gsm8k_are_right_and_shuffled_ones_wrong() -> None:
    golds = [f"First {n} and so on.\nThen 2*{n}=<<2*{n}={2 * n}>>{2 * n}.\n#### {2 * n:,}" for n in range(500, 520)]
    same = [gsm8k(gold, gold)["scores"] for gold in golds]
    moved = [gsm8k(gold, golds[i - 1])["scores"] for i, gold in enumerate(golds)]
    assert all(set(one.values()) == {1.0} for one in same)
    assert all(set(one.values()) == {0.0} for one in moved)


@pytest.mark.parametrize(
    ("reply", "strict", "flexible", "flags"),
    [
        ("#### 18", 1.0, 1.0, set()),
        ("so it is $18.", 0.0, 1.0, {"unparsed"}),
        ("#### 18 and then 19", 1.0, 0.0, set()),
        ("I am sorry, I cannot help with that.", 0.0, 0.0, {"unparsed", "refused"}),
        ("抱歉，我不能回答。", 0.0, 0.0, {"unparsed", "refused"}),
        ("", 0.0, 0.0, {"unparsed"}),
    ],
)
def test_strict_and_flexible_extraction_stand_side_by_side(
    reply: str, strict: float, flexible: float, flags: set[str]
) -> None:
    row = gsm8k(reply, "two steps\n#### 18")
    assert row["scores"] == {"exact.strict": strict, "exact.flexible": flexible}
    assert set(row["flags"]) == flags


def test_the_majority_of_several_replies_is_an_answer_of_its_own() -> None:
    task = catalogue.task("gsm8k_self_consistency")
    asked = Asked(Document("q", {}), ("?",), reference="#### 7")
    replies = ["The answer is 7.", "The answer is 9.", "The answer is 7.", "no idea"]
    outcome = {"outputs": replies, "reasons": ["stop"] * 4, "lengths": [1] * 4}
    row = scored(task, asked, outcome)
    assert row["scores"]["majority.strict"] == 1.0
    assert row["scores"]["exact.strict"] == 0.5
    assert row["flags"] == {}


def test_extraction_takes_the_first_or_last_match_and_its_first_group() -> None:
    ways = catalogue.task("gsm8k").spec.extract
    assert extract("1 then 22 then 333.", ways["flexible"]) == "333."
    assert normalised("333.", catalogue.task("gsm8k").spec.match) == "333"
    assert extract("nothing", ways["strict"]) is None


PYTHON = """
def prepare(row):
    return None if row["id"] == "q0" else row | {"upper": row["question"].upper()}

def prompt(document):
    return [{"role": "user", "content": document["upper"]}]

def score(document, outputs):
    if document["id"] == "q1":
        return {"length": None}
    return {"length": len(outputs[0]) / 1000, "timed_out": document["id"] == "q2"}

def corpus(documents, outputs):
    return {"total": {"value": float(len(outputs)), "low": 1.0, "high": 9.0}}
"""


def test_a_task_may_bring_its_own_functions(tmp_path: Path) -> None:
    write_text(tmp_path / "mine.py", PYTHON)
    changes = {"kind": "generation", "choices": None, "answer": None, "metrics": ["length"], "python": "mine.py"}
    found = run(small_model(max_positions=1024), task_file(tmp_path, **changes), data(tmp_path), max_tokens=4)
    assert found.summary["n"] == 5
    assert found.summary["flags"] == {"unparsed": 1, "truncated": 5, "refused": 0, "timed_out": 1}
    assert found.summary["metrics"]["total"]["value"] == 5
    assert found.rows[0]["prompt"][0]["content"].isupper()


def test_what_a_tasks_own_scoring_raises_is_said_with_its_place(tmp_path: Path) -> None:
    write_text(tmp_path / "mine.py", "def score(document, outputs):\n    return 1 / 0\n")
    file = task_file(tmp_path, python="mine.py", **WRITING)
    with pytest.raises(LuhuoError, match=r"ZeroDivisionError[\s\S]*q0"):
        run(small_model(max_positions=1024), file, data(tmp_path), max_tokens=2)


def test_turns_are_asked_one_after_the_other(tmp_path: Path) -> None:
    write_text(tmp_path / "mine.py", "def score(document, outputs):\n    return {'replies': len(outputs)}\n")
    changes = {"kind": "generation", "choices": None, "answer": None, "metrics": ["replies"], "python": "mine.py"}
    file = task_file(tmp_path, turns="[question, 'And why?']", prompt=None, **changes)
    found = run(small_model(max_positions=2048), file, data(tmp_path), max_tokens=3)
    assert found.summary["metrics"]["replies"]["value"] == 2
    assert found.rows[0]["prompt"][1] == "And why?"


def test_scores_have_error_interval_chance_and_subjects(tmp_path: Path) -> None:
    found = run(small_model(max_positions=1024), task_file(tmp_path), data(tmp_path, 12)).summary
    score = found["metrics"]["acc"]
    assert score["low"] <= score["value"] <= score["high"]
    assert score["chance"] == pytest.approx((1 / 3 + 1 / 4) / 2)
    share = score["value"]
    assert score["stderr"] == pytest.approx((share * (1 - share) / 11) ** 0.5)
    assert {name: part["n"] for name, part in found["subjects"].items()} == {"spelling": 6, "zoology": 6}
    parts = [part["metrics"]["acc"]["value"] for part in found["subjects"].values()]
    assert score["macro"]["value"] == pytest.approx(sum(parts) / 2)


def test_a_random_model_guesses(tmp_path: Path) -> None:
    """Choices of a random model are right as often as chance has it, within four standard errors."""
    made = [
        {
            "id": f"n{n}",
            "topic": "x",
            "question": f"Number {n}?",
            "options": list("ABCD"),
            "correct": "ABCD"[n * 7 % 4],
        }
        for n in range(200)
    ]
    write_text(tmp_path / "data" / "quiz.jsonl", "".join(json.dumps(row) + "\n" for row in made))
    score = run(small_model(), task_file(tmp_path), tmp_path / "data").summary["metrics"]["acc"]
    assert abs(score["value"] - 0.25) < 4 * (0.25 * 0.75 / 200) ** 0.5
    assert score["near_chance"] == (score["low"] <= 0.25)
