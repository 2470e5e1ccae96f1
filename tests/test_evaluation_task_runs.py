"""Tasks run on a model: what is kept, continued, cut and refused; several tasks, their report, two runs compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from luhuo.core.atomic import write_text
from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.evaluation import outcomes
from luhuo.evaluation.asking import AskSettings
from luhuo.evaluation.benchmark import benchmark, read_rows
from luhuo.evaluation.runner import Runner, Subject
from luhuo.evaluation.task_compare import compare, markdown
from luhuo.evaluation.tasks import catalogue
from luhuo.inference.engine import Engine
from tests.evaluation_cases import WRITING, data, rows, run, task_file
from tests.small_chat import small_model, with_template


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(outcomes, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def test_a_rerun_asks_the_model_nothing_and_a_larger_limit_only_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, file, folder = small_model(max_positions=1024), task_file(tmp_path), data(tmp_path, 12)
    first = run(model, file, folder, "digest", limit=5)
    read: list[int] = []
    hidden = model.hidden
    monkeypatch.setattr(model, "hidden", lambda ids, **options: (read.append(len(ids)), hidden(ids, **options))[1])
    assert run(model, file, folder, "digest", limit=5).rows == first.rows
    assert not read
    second = run(model, file, folder, "digest", limit=9)
    assert read and {row["id"] for row in first.rows} < {row["id"] for row in second.rows}
    read.clear()
    run(model, file, folder, "another model", limit=5)
    assert read
    read.clear()
    run(model, task_file(tmp_path, version=2), folder, "digest", limit=5)
    assert read


def test_a_run_that_was_cut_off_continues_and_half_a_line_is_asked_again(tmp_path: Path, cache: Path) -> None:
    model, file, folder = small_model(max_positions=1024), task_file(tmp_path), data(tmp_path)
    whole = run(model, file, folder, "digest")
    kept = next(cache.rglob("quiz.jsonl"))
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join([*lines[:3], lines[3][: len(lines[3]) // 2]]))
    again = run(model, file, folder, "digest")
    assert [row["id"] for row in again.rows] == [row["id"] for row in whole.rows]
    for row, before in zip(again.rows, whole.rows, strict=True):
        assert row["logprobs"] == pytest.approx(before["logprobs"], abs=1e-3)
    assert sum(1 for line in kept.read_text().splitlines() if line.endswith("}")) == 6


def test_replies_are_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(max_positions=1024)
    extract = {"first": {"pattern": "([a-z]+)"}}
    file = task_file(tmp_path, extract=extract, **WRITING)
    first = run(model, file, data(tmp_path), "digest", max_tokens=4)
    assert all(row["flags"].get("truncated") for row in first.rows if len(row["outputs"][0]) > 3)
    monkeypatch.setattr(model, "hidden", None)
    assert run(model, file, data(tmp_path), "digest", max_tokens=4).rows == first.rows


def test_a_prompt_beyond_the_context_loses_examples_then_its_beginning(tmp_path: Path) -> None:
    file = task_file(tmp_path, shots={"count": 2})
    found = run(small_model(max_positions=200), file, data(tmp_path))
    assert {row["shots"] for row in found.rows} < {0, 1, 2} and not found.summary["flags"]["truncated"]
    cut = run(small_model(max_positions=200), file, data(tmp_path), context=40)
    assert cut.summary["flags"]["truncated"] == cut.summary["n"]
    assert found.summary["recipe"]["shots"] == 2


def test_chat_mode_needs_a_chat_template(tmp_path: Path) -> None:
    model = small_model(max_positions=1024)
    assert run(model, task_file(tmp_path), data(tmp_path), mode="chat").summary["n"] == 6
    model.tokenizer = with_template(None)
    with pytest.raises(LuhuoError, match="template"):
        run(model, task_file(tmp_path), data(tmp_path), mode="chat")


def bench(model: Any, files: list[Path], folder: Path, out: Path, **ask: Any) -> dict[str, Any]:
    names = [str(file) for file in files]
    places = {file.stem: str(folder) for file in files}
    return benchmark(Subject(Engine(model)), names, places, AskSettings.parse(ask), folder=out, model="m<b>")


def test_a_task_that_fails_leaves_the_others_alone_and_is_listed(tmp_path: Path) -> None:
    files = [task_file(tmp_path, "broken", prompt="{{nothing}}"), task_file(tmp_path, "quiz")]
    scores = bench(small_model(max_positions=1024), files, data(tmp_path), tmp_path / "out")
    assert list(scores["tasks"]) == ["quiz"] and "nothing" in scores["failed"]["broken"]
    assert len(read_rows(tmp_path / "out", "quiz")) == 6
    assert "broken" in (tmp_path / "out" / "report.md").read_text()
    with pytest.raises(RunFailed, match="No task"):
        bench(small_model(max_positions=1024), files[:1], data(tmp_path), tmp_path / "none")


def test_data_for_a_task_that_is_not_asked_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="quiz"):
        benchmark(
            Subject(Engine(small_model())), [str(task_file(tmp_path))], {"quizz": "x"}, AskSettings(), folder=tmp_path
        )


def test_groups_have_a_micro_and_a_macro_mean(tmp_path: Path) -> None:
    files = [task_file(tmp_path, name) for name in ("small", "large")]
    write_text(
        tmp_path / "both.yaml",
        json.dumps(
            {
                "group": "both",
                "version": 1,
                "summary": {"en": "Both.", "zh": "两者。"},
                "tasks": [str(file) for file in files],
            }
        ),
    )
    places = {"small": str(data(tmp_path / "a", 4)), "large": str(data(tmp_path / "b", 12))}
    runner_scores = benchmark(
        Subject(Engine(small_model(max_positions=1024))),
        [str(tmp_path / "both.yaml")],
        places,
        AskSettings(),
        folder=tmp_path / "out",
    )
    values = [runner_scores["tasks"][name]["metrics"]["acc"]["value"] for name in ("small", "large")]
    group = runner_scores["groups"]["both"]
    assert group["micro"]["value"] == pytest.approx((4 * values[0] + 12 * values[1]) / 16)
    assert group["macro"]["value"] == pytest.approx(sum(values) / 2)


def test_the_report_escapes_what_strangers_wrote(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    evil = rows(2)
    evil[0]["question"] = "</script><script>alert(1)</script>"
    write_text(folder / "quiz.jsonl", "".join(json.dumps(row) + "\n" for row in evil))
    bench(small_model(max_positions=1024), [task_file(tmp_path)], folder, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script>alert" not in page and "m<b>" not in page
    assert "\\u003cscript" in page


def test_two_evaluations_are_compared_item_by_item_with_reasons(tmp_path: Path) -> None:
    folder, file = data(tmp_path, 12), task_file(tmp_path)
    model = small_model(max_positions=1024)
    bench(model, [file], folder, tmp_path / "a")
    bench(model, [file], folder, tmp_path / "b", shots=1)
    bench(model, [file], folder, tmp_path / "c", limit=7)
    found = compare([tmp_path / name for name in "abc"])
    entry = found["tasks"]["quiz"]
    same = compare([tmp_path / "a", tmp_path / "a"])["tasks"]["quiz"]["differences"]
    assert all(one["difference"] == 0 and one["p_value"] == 1.0 for one in same.values())
    assert entry["differences"]["b"]["n"] == 12 and entry["differences"]["c"]["n"] == 7
    assert entry["differences"]["c"]["difference"] == 0
    reasons = "\n".join(entry["reasons"]["b"])
    assert "(shots): 0 → 1" in reasons and "first prompt differs from character" in reasons
    assert any("only 7 items" in line for line in entry["reasons"]["c"])
    assert "MDE" in markdown(found)


def test_comparing_what_shares_nothing_says_so(tmp_path: Path) -> None:
    folder = data(tmp_path)
    for name in ("one", "two"):
        bench(small_model(max_positions=1024), [task_file(tmp_path, name)], folder, tmp_path / "out" / name)
    with pytest.raises(LuhuoError, match="share no task"):
        compare([tmp_path / "out" / "one", tmp_path / "out" / "two"])
    with pytest.raises(LuhuoError, match="no evaluation of tasks"):
        compare([tmp_path, tmp_path / "out" / "two"])


def test_the_runner_says_what_decided_a_score(tmp_path: Path) -> None:
    model = small_model(max_positions=1024)
    runner = Runner(Subject(Engine(model)), AskSettings(limit=3), seed=4)
    recipe = runner.run(catalogue.task(str(task_file(tmp_path))), str(data(tmp_path))).summary["recipe"]
    assert recipe["limit"] == 3 and recipe["seed"] == 4 and recipe["mode"] == "plain" and recipe["dtype"] == "float32"
    assert recipe["first_prompt"].startswith("Question: Which word")
    assert len(recipe["data"]) == len(recipe["definition"]) == 64
