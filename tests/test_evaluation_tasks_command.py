"""The commands about benchmarks, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import luhuo
from luhuo.cli import app
from luhuo.core.errors import LuhuoError
from luhuo.evaluation import outcomes
from luhuo.model.save import save
from tests.evaluation_cases import data, task_file
from tests.small_chat import small_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "cache_folder", lambda: tmp_path / "cache")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save(small_model(max_positions=1024), tmp_path / "model")
    return tmp_path / "model"


def command(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, LuhuoError):
        return result.exception.exit_code, str(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_a_benchmark_runs_is_kept_and_is_compared(tmp_path: Path, model: Path) -> None:
    quiz, folder = task_file(tmp_path), data(tmp_path)
    asked = ("evaluate", model, "--tasks", quiz, "--data", f"quiz={folder}", "--device", "cpu")
    code, said = command(*asked, "--out", tmp_path / "one")
    assert code == 0 and "acc_norm" in said and "report.html" in said
    assert command(*asked, "--out", tmp_path / "one")[1].endswith("(unchanged)\n")
    for name in ("tasks.json", "tasks/quiz.jsonl", "report.html", "report.md", "manifest.json"):
        assert (tmp_path / "one" / name).is_file()
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert {"quiz.acc", "quiz.acc.low", "quiz.acc.high", "quiz.n"} <= set(manifest["metrics"])
    assert command(*asked, "--shots", "1", "--out", tmp_path / "two")[0] == 0
    code, said = command("compare", tmp_path / "one", tmp_path / "two")
    assert code == 0 and "(shots): 0 → 1" in said and "95% interval" in said
    words = (f"before={tmp_path / 'one'}", f"after={tmp_path / 'two'}", "--out", tmp_path / "difference")
    code, said = command("compare", *words)  # the stage, as a recipe has it
    assert code == 0 and "difference.quiz.p" in said and (tmp_path / "difference" / "tasks.md").is_file()
    code, said = command("compare", tmp_path / "one", tmp_path / "two", "--json")
    assert json.loads(said)["tasks"]["quiz"]["differences"]["two"]["n"] == 6


def test_a_task_that_cannot_run_is_told_and_the_next_try_takes_it_up(tmp_path: Path, model: Path) -> None:
    quiz, folder = task_file(tmp_path), data(tmp_path)
    broken = task_file(tmp_path, "broken", prompt="{{nothing}}")
    asked = (
        "evaluate",
        model,
        "--tasks",
        f"{quiz},{broken}",
        "--data",
        f"quiz={folder}",
        "--data",
        f"broken={folder}",
    )
    code, said = command(*asked, "--out", tmp_path / "one", "--device", "cpu")
    assert code == 1 and "✗ broken" in said and "acc" in said
    task_file(tmp_path, "broken")
    code, said = command(*asked, "--out", tmp_path / "one", "--device", "cpu")
    assert code == 0 and "✗" not in said


def test_tasks_are_listed_and_shown() -> None:
    code, said = command("tasks")
    assert code == 0 and "gsm8k" in said and "hellaswag" in said
    code, said = command("tasks", "show", "gsm8k")
    assert code == 0 and "Question: Mei buys 3 notebooks" in said and "#### 8" in said and "strict" in said
    assert "arc_challenge" in command("tasks", "show", "arc")[1]


def test_mistakes_on_the_command_line_say_what_was_meant(tmp_path: Path, model: Path) -> None:
    code, said = command("evaluate", model, "--tasks", "gsm9k", "--out", tmp_path / "x")
    assert code == 2 and "gsm8k" in said
    code, said = command("evaluate", model, "--tasks", "gsm8k", "--data", "gsm8k", "--out", tmp_path / "x")
    assert code == 2 and "--data TASK=DIR" in said
    code, said = command("compare", tmp_path)
    assert code == 2 and "two evaluations" in said


def test_a_model_in_memory_is_evaluated_like_one_on_the_disk(tmp_path: Path, model: Path) -> None:

    quiz, places = task_file(tmp_path), {"quiz": data(tmp_path)}
    memory = luhuo.evaluate(small_model(max_positions=1024), [str(quiz)], places, limit=4)
    disk = luhuo.evaluate(model, [str(quiz)], places, limit=4, device="cpu", dtype="fp32", out=tmp_path / "out")
    assert memory["tasks"]["quiz"]["metrics"] == disk["tasks"]["quiz"]["metrics"]
    assert memory["tasks"]["quiz"]["n"] == 4 and (tmp_path / "out" / "report.html").is_file()
