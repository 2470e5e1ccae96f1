"""Judging as a whole: judges validated against people, stages that compare models, runs that are cut off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from luhuo.core.errors import LuhuoError, RequirementMissed, RunFailed
from luhuo.evaluation.judges.calls import Calls
from luhuo.evaluation.judges.config import JudgeConfig
from luhuo.evaluation.judges.human import read_set
from luhuo.evaluation.judges.judge import open_judge
from luhuo.evaluation.judges.validate import recorded, validate
from tests.chat_endpoint import Says
from tests.judge_cases import FOLDER, answers, needs_data, prefers, read, run, server, verdict_rubric, write

# People


@needs_data
def test_judges_whose_verdicts_come_with_a_set_are_measured_too() -> None:
    group = read_set("pandalm", FOLDER / "pandalm")
    assert len(group.items) == 999 and group.form == "pairwise"
    rows = {row["judge"].split()[0]: row for row in recorded(group)}
    assert rows["pandalm-7b"]["accuracy"] == pytest.approx(0.6677, abs=5e-5)
    assert rows["gpt-3.5-turbo"]["accuracy_all"] == pytest.approx(0.6977, abs=5e-4)
    assert rows["pandalm-7b"]["people"]["fleiss"]["value"] > 0.85


@needs_data
def test_a_length_rule_is_no_judge_and_a_list_of_phrases_finds_most_refusals() -> None:
    calls = Calls(None)
    with open_judge(JudgeConfig.parse({"rule": "longer"}), "pairwise", calls) as judge:
        row, said = validate(judge, read_set("pandalm", FOLDER / "pandalm", 300))
    assert 0.1 < row["kappa"]["value"] < 0.5 < row["people"]["fleiss"]["value"]
    assert row["bias"]["first"] == 0.5 and row["bias"]["length"]["judge"] == 1.0 and len(said) == 300
    config = JudgeConfig.parse({"rule": "refusal"})
    with open_judge(config, "label", calls) as judge:
        row, _ = validate(judge, read_set("xstest", FOLDER / "xstest"))
    assert row["accuracy"] > 0.9 and row["kappa"]["low"] > 0.75 and row["items"] == 1350
    for name, folder, count in (("pyrit", "pyrit_scorer_evals", 172), ("gptfuzzer", "gptfuzzer", 1540)):
        group = read_set(name, FOLDER / folder)
        assert len(group.items) > 0.95 * count and all(len(one.labels) == 1 for one in group.items)


def test_rows_of_ones_own_are_read_and_broken_ones_refused(tmp_path: Path) -> None:
    rows = [
        {"prompt": "q", "answers": ["a", "b"], "labels": [1, 1, 2]},
        {"prompt": "q", "answers": ["a"], "labels": [1]},
    ]
    good = [dict(rows[0], id=number) for number in range(9)]
    found = read_set("mine", write(tmp_path / "good.jsonl", good), 3)
    assert [one.id for one in found.items] == ["0", "3", "6"] and found.items[0].labels == ("a", "a", "b")
    write(tmp_path / "own.jsonl", rows)
    with pytest.raises(LuhuoError, match="no judged answer") as error:
        read_set("mine", tmp_path / "own.jsonl")
    assert "row 2" in str(error.value.where)
    with pytest.raises(LuhuoError, match="not there"):
        read_set("pandalm", tmp_path / "nowhere")
    with pytest.raises(LuhuoError, match="Unknown set"):
        read_set("pandlm", tmp_path)


def test_the_stage_compares_all_models_by_all_judges_and_says_who_was_validated(tmp_path: Path) -> None:
    files = answers(tmp_path, {"small": "ok", "large": "good and long", "middle": "so so"})
    with server(prefers("good")) as (config, _):
        judges = [{"rule": "longer"}, {"rule": "first"}, config | {"rubric": verdict_rubric()}]
        done = run("judge", tmp_path / "out", answers=files, judges=judges, cache=str(tmp_path / "c.db"))
    found = read(done, "scores.json")
    duels = {tuple(one["models"]): one for one in found["judges"]["longer"]["duels"]}
    assert len(duels) == 3 and duels["small", "large"]["losses"] == 6
    assert set(duels["small", "large"]["categories"]) == {"maths", "prose"}
    assert found["judges"]["first"]["bias"]["first"] == 1.0
    assert found["judges"]["asked"]["validity"] == []
    assert {tuple(one["judges"]) for one in found["between"]} >= {("asked", "longer"), ("asked", "first", "longer")}
    page = (done.path / "report.html").read_text(encoding="utf-8")
    assert "NOT VALIDATED" in page and "small : large" in page and "http" not in page.replace("https://", "")
    rows = [json.loads(line) for line in (done.path / "judged.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 3 * 18 and all(row["orders"] for row in rows)


def test_against_a_baseline_rates_at_equal_length_learn_from_the_other_models(tmp_path: Path) -> None:
    files = answers(tmp_path, {"base": "plain words", "wordy": "plain words " * 9, "short": "w"}, 12)
    done = run(
        "judge",
        tmp_path / "out",
        answers=files,
        judges=[{"rule": "longer"}],
        baseline="base",
        cache=str(tmp_path / "c"),
    )
    duels = read(done, "scores.json")["judges"]["longer"]["duels"]
    assert {tuple(one["models"]) for one in duels} == {("wordy", "base"), ("short", "base")}
    assert all(one["length_controlled"]["others"] == 1 for one in duels)
    with pytest.raises(LuhuoError, match="Unknown baseline"):
        run("judge", tmp_path / "bad", answers=files, judges=[{"rule": "longer"}], baseline="bass")


def test_single_answers_are_rated_with_intervals_and_lost_ones_counted(tmp_path: Path) -> None:
    files = answers(tmp_path, {"a": "fine", "b": "odd"})
    says: Says = lambda m: "[[8]]" if "fine" in m[-1]["content"] else "[[3]]" if "odd 1" in m[-1]["content"] else "?"  # noqa: E731
    with server(says) as (config, _):
        done = run("judge", tmp_path / "out", answers=files, judges=[config], kind="single", cache=str(tmp_path / "c"))
    models = read(done, "scores.json")["judges"]["asked"]["models"]
    assert models["a"]["ratings"]["all"]["mean"] == 8.0 and models["a"]["unjudged"] == 0
    assert models["b"]["ratings"]["all"]["n"] == 1 and models["b"]["reasons"] == {"nonsense": 5}
    assert "category maths" in models["a"]["ratings"]


@needs_data
def test_mt_benchs_files_are_judged_turn_by_turn_with_their_references(tmp_path: Path) -> None:
    bench = FOLDER / "mt_bench"
    reference = bench / "reference_answer_gpt-4.jsonl"
    wrong = [
        {"question_id": row["question_id"], "choices": [{"turns": ["No idea.", "No."]}]}
        for row in map(json.loads, reference.read_text(encoding="utf-8").splitlines())
    ]
    files = {"gpt-4": str(reference), "clueless": write(tmp_path / "clueless.jsonl", wrong)}
    said = []

    def says(messages: list[dict[str, Any]]) -> str:
        said.append(messages)
        return "Rating: [[1]]" if "No idea." in messages[-1]["content"] else "Rating: [[9]]"

    with server(says) as (config, _):
        judge = config | {"rubric": str(bench / "judge_prompts.jsonl")}
        given = {"questions": str(bench / "question.jsonl"), "references": str(reference), "limit": 4}
        done = run(
            "judge", tmp_path / "out", answers=files, judges=[judge], kind="single", cache=str(tmp_path / "c"), **given
        )
    models = read(done, "scores.json")["judges"]["asked"]["models"]
    assert models["gpt-4"]["ratings"]["all"]["mean"] == 9.0 and models["clueless"]["ratings"]["turn 2"]["mean"] == 1.0
    assert models["gpt-4"]["n"] == 8 and sum("Reference" in m[-1]["content"] for m in said) == 16


def test_a_judge_below_the_wanted_agreement_does_not_judge(tmp_path: Path) -> None:
    own = write(
        tmp_path / "own.jsonl",
        [
            {
                "prompt": f"q{i}",
                "answers": ["long text", "x"] if i % 2 else ["x", "long text"],
                "labels": [1 + i % 2] * 2,
            }
            for i in range(20)
        ],
    )
    files = answers(tmp_path, {"a": "text", "b": "more text"})
    judges, cache = [{"rule": "longer"}, {"rule": "shorter"}], str(tmp_path / "c.db")
    checked = run(
        "judge-validation", tmp_path / "checked", judges=judges, data=[{"name": "own", "path": own}], cache=cache
    )
    table = {row["judge"]: row for row in read(checked, "validation.json")["table"]}
    assert table["longer"]["kappa"]["value"] == -1.0 and table["shorter"]["kappa"]["value"] == 1.0
    given: dict[str, Any] = {"answers": files, "validation": str(checked.path), "min_kappa": 0.6, "cache": cache}
    done = run("judge", tmp_path / "good", judges=[{"rule": "shorter"}], **given)
    assert read(done, "scores.json")["judges"]["shorter"]["validity"][0]["kappa"]["value"] == 1.0
    for rule in ("longer", "first"):
        with pytest.raises(RequirementMissed, match="agreement with people"):
            run("judge", tmp_path / rule, judges=[{"rule": rule}], **given)


def test_a_server_that_is_gone_takes_no_other_judges_verdicts_with_it(tmp_path: Path) -> None:
    own = write(tmp_path / "own.jsonl", [{"prompt": "q", "answers": ["a", "bb"], "labels": [2, 2]}] * 2)
    gone = {"name": "gone", "responder": {"endpoint": {"url": "http://127.0.0.1:9/v1", "model": "m", "tries": 1}}}
    data, cache = [{"name": "own", "path": own}], str(tmp_path / "c.db")
    done = run("judge-validation", tmp_path / "out", judges=[gone, {"rule": "longer"}], data=data, cache=cache)
    found = read(done, "validation.json")
    assert [row["judge"] for row in found["table"]] == ["longer"]
    assert "cannot be reached" in found["failed"][0]["reason"] and found["failed"][0]["judge"] == "gone"
    with pytest.raises(LuhuoError, match="No judge could judge any set"):
        run("judge-validation", tmp_path / "none", judges=[gone], data=data, cache=cache)


def test_a_run_that_was_cut_off_asks_only_for_what_is_missing(tmp_path: Path) -> None:
    files, left = answers(tmp_path, {"a": "good", "b": "bad"}, 40), [40]

    def says(messages: list[dict[str, Any]]) -> str | int:
        left[0] -= 1
        return 401 if left[0] < 0 else prefers("good")(messages)  # a key that has expired ends a run

    with server(says) as (config, asked):
        given: dict[str, Any] = {"answers": files, "judges": [config | {"rubric": verdict_rubric()}]}
        with pytest.raises(LuhuoError, match="refuses to answer"):
            run("judge", tmp_path / "out", cache=str(tmp_path / "c.db"), **given)
        left[0], before = 1000, len(asked)
        done = run("judge", tmp_path / "out", cache=str(tmp_path / "c.db"), **given)
        assert len(asked) - before == 80 - 32  # a whole group of 32 verdicts had been kept
    assert read(done, "scores.json")["judges"]["asked"]["duels"][0]["wins"] == 40


def test_a_judge_that_only_ever_fails_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    files = answers(tmp_path, {"a": "x", "b": "y"}, 20)
    with server(lambda _: 400) as (config, _), pytest.raises(RunFailed, match="No question could be answered"):
        run("judge", tmp_path / "out", answers=files, judges=[config], cache=str(tmp_path / "c"))


def test_mistakes_in_what_is_to_be_judged_are_told(tmp_path: Path) -> None:
    files = answers(tmp_path, {"a": "x", "b": "y"})
    rule = [{"rule": "longer"}]
    for values, told in (
        ({"answers": {"a": files["a"]}, "judges": rule}, "needs two models"),
        ({"answers": files, "judges": rule * 2}, "same name"),
        ({"answers": files, "judges": [{"rule": "longer", "reward_model": "x"}]}, "only one|one of rule"),
        ({"answers": {**files, "c": write(tmp_path / "c.jsonl", [{"text": "?"}])}, "judges": rule}, "no known layout"),
        (
            {"answers": {**files, "c": write(tmp_path / "d.jsonl", [{"prompt": "?", "answer": "!"}])}, "judges": rule},
            "in common",
        ),
        ({"answers": files, "judges": rule, "validation": files["a"]}, "no judge-validation"),
    ):
        with pytest.raises(LuhuoError, match=told):
            run("judge", tmp_path / "out", cache=str(tmp_path / "cache.db"), **values)
