"""Benchmarks as data: task files, their data, items, scoring; what is kept, and what bad input says."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from luhuo.core.atomic import write_text
from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.evaluation import outcomes
from luhuo.evaluation.asking import AskSettings
from luhuo.evaluation.benchmark import benchmark, read_rows
from luhuo.evaluation.item_scores import extract, normalised, scored
from luhuo.evaluation.runner import Runner, Subject
from luhuo.evaluation.task_compare import compare, markdown
from luhuo.evaluation.tasks import catalogue
from luhuo.evaluation.tasks.documents import Document, documents
from luhuo.evaluation.tasks.requests import Asked, Asker, Manner
from luhuo.evaluation.tasks.show import described
from luhuo.inference.engine import Engine
from tests.evaluation_cases import WRITING, data, rows, run, task_file
from tests.small_chat import small_model, with_template


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(outcomes, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def refused(file: Path) -> str:
    with pytest.raises(LuhuoError) as error:
        catalogue.find(str(file))
    return str(error.value)


def test_every_built_in_task_is_valid_and_can_be_shown() -> None:
    for entry in catalogue.entries():
        if isinstance(entry, catalogue.Group):
            assert catalogue.members(entry)
        else:
            assert entry.task in described(catalogue.task(entry.task))
            assert entry.summary.en and entry.summary.zh


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(LuhuoError, match="hellaswag"):
        catalogue.find("helaswag")


def test_a_task_file_with_a_missing_key_says_which(tmp_path: Path) -> None:
    assert "answer" in refused(task_file(tmp_path, answer=None))
    assert "licence" in refused(task_file(tmp_path, licence=None))
    assert "layouts" in refused(task_file(tmp_path, data={}))


def test_a_task_file_with_a_wrong_key_names_the_right_one(tmp_path: Path) -> None:
    assert "choices" in refused(task_file(tmp_path, choises="options"))
    assert "no_such" in refused(task_file(tmp_path, metrics=["no_such"]))
    wrong = {"answer": {"pattern": "(unclosed"}}
    assert "regular expression" in refused(task_file(tmp_path, extract=wrong, **WRITING))


def test_a_task_file_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    write_text(tmp_path / "quiz.yaml", "task: [")
    assert "cannot be read" in refused(tmp_path / "quiz.yaml")
    write_text(tmp_path / "quiz.yaml", "include: quiz.yaml\n")
    assert "included" in refused(tmp_path / "quiz.yaml")


def test_a_file_includes_another_and_changes_some_keys(tmp_path: Path) -> None:
    task_file(tmp_path)
    write_text(tmp_path / "other.yaml", "include: quiz\ntask: other\nshots: {count: 2}\n")
    found = catalogue.task(str(tmp_path / "other.yaml"))
    assert (found.name, found.spec.shots.count, found.spec.shots.split) == ("other", 2, "train")
    assert found.digest != catalogue.task(str(tmp_path / "quiz.yaml")).digest


def test_a_template_that_does_not_fit_names_item_and_fields(tmp_path: Path) -> None:
    file = task_file(tmp_path, prompt="{{questoin}}")
    with pytest.raises(LuhuoError, match="questoin") as error:
        run(small_model(), file, data(tmp_path))
    assert "q0" in str(error.value) and "question" in str(error.value)


def test_an_answer_that_is_no_choice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="none of the choices"):
        run(small_model(), task_file(tmp_path, answer="17"), data(tmp_path))


def test_an_empty_set_and_a_missing_one_are_told_apart(tmp_path: Path) -> None:
    file = task_file(tmp_path)
    write_text(tmp_path / "empty" / "quiz.jsonl", "\n")
    with pytest.raises(LuhuoError, match="no items"):
        run(small_model(), file, tmp_path / "empty")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(LuhuoError, match=r"quiz\.jsonl"):
        run(small_model(), file, tmp_path / "nothing")
    with pytest.raises(LuhuoError, match="--data quiz=DIR"):
        run(small_model(), file, None)


def test_a_line_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = data(tmp_path)
    with (folder / "quiz.jsonl").open("a") as handle:
        handle.write('{"id": "half')
    with pytest.raises(LuhuoError, match=r"quiz\.jsonl:7"):
        run(small_model(), task_file(tmp_path), folder)


def test_mmlu_is_read_in_its_original_layout_and_as_json_lines(tmp_path: Path) -> None:
    row = {"subject": "astronomy", "question": "Which, of these?", "choices": ["a", "b", "c", "d"], "answer": 2}
    for part in ("dev", "test"):
        (tmp_path / "csv" / part).mkdir(parents=True)
        with (tmp_path / "csv" / part / f"astronomy_{part}.csv").open("w", newline="") as handle:
            csv.writer(handle).writerow([row["question"], *row["choices"], "C"])
    (tmp_path / "lines").mkdir()
    for part in ("dev", "test"):
        with gzip.open(tmp_path / "lines" / f"{part}.jsonl.gz", "wt") as handle:
            handle.write(json.dumps(row) + "\n")
    task = catalogue.task("mmlu")
    asked = [
        Asker(task).ask(documents(task, tmp_path / kind, limit=None, seed=0, shots=shots)[0])
        for kind, shots in (("csv", 0), ("lines", 0))
    ]
    assert asked[0].prompts == asked[1].prompts and asked[0].right == asked[1].right == (0, 0, 1, 0)
    assert asked[0].document.group == asked[1].document.group == "stem"
    assert "about astronomy.\n\nWhich, of these?\nA. a" in str(asked[0].prompts[0])


def test_parquet_rows_are_items(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    (tmp_path / "main").mkdir()
    table = pyarrow.Table.from_pylist([{"question": "1 + 1?", "answer": "It is 2.\n#### 2"}])
    parquet.write_table(table, tmp_path / "main" / "test-00000-of-00001.parquet")
    found = documents(catalogue.task("gsm8k"), tmp_path, limit=None, seed=0, shots=0)
    assert [one.fields["question"] for one in found] == ["1 + 1?"]


def test_truthfulqa_makes_both_forms_out_of_its_table(tmp_path: Path) -> None:
    columns = ["Type", "Category", "Question", "Best Answer", "Best Incorrect Answer", "Correct Answers"]
    columns += ["Incorrect Answers", "Source"]
    cells = ["A", "Made up", "Why?", "So", "No", "So; Because", "No; Never; ", "x"]
    with (tmp_path / "TruthfulQA.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([columns, cells])
    one, two = (
        Asker(catalogue.task(name)).ask(documents(catalogue.task(name), tmp_path, limit=None, seed=0)[0])
        for name in ("truthfulqa_mc1", "truthfulqa_mc2")
    )
    assert (one.choices, one.right) == (("So", "No", "Never"), (1, 0, 0))
    assert (two.choices, two.right) == (("So", "Because", "No", "Never"), (1, 1, 0, 0))


def test_a_limit_takes_the_same_items_for_a_seed_and_keeps_their_order(tmp_path: Path) -> None:
    task, folder = catalogue.task(str(task_file(tmp_path))), data(tmp_path, 40)
    ids = [[one.id for one in documents(task, folder, limit=9, seed=seed)] for seed in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]
    assert ids[0] == sorted(ids[0], key=lambda name: int(name[1:]))
    assert set(ids[0]) < {one.id for one in documents(task, folder, limit=20, seed=1)}


@pytest.mark.parametrize("order", ["first", "random"])
def test_examples_never_hold_the_item_itself(order: str, tmp_path: Path) -> None:
    file = task_file(tmp_path, shots={"count": 2, "split": "test", "order": order, "by": "topic"})
    for one in documents(catalogue.task(str(file)), data(tmp_path, 12), limit=None, seed=0):
        assert len(one.examples) == 2
        assert all(row["id"] != one.id and row["topic"] == one.subject for row in one.examples)


def test_too_few_examples_are_an_error_that_says_how_many_there_are(tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="shots=3"):
        run(small_model(), task_file(tmp_path), data(tmp_path), shots=5)


def test_examples_stand_before_the_question_as_text_or_as_turns(tmp_path: Path) -> None:
    task = catalogue.task(str(task_file(tmp_path, description="About {{topic}}.\n", shots={"count": 1})))
    one = documents(task, data(tmp_path), limit=1, seed=0)[0]
    example, question = one.examples[0], one.fields["question"]
    shown = f"Question: {example['question']}\nAnswer: {example['correct']}\n\n"
    text = f"About {one.subject}.\n{shown}Question: {question}\nAnswer:"
    assert Asker(task).ask(one).prompts == (text,)
    chat = Asker(task, Manner("chat", "text")).ask(one)
    assert chat.prompts[0] == [{"role": "user", "content": text}]
    assert chat.continuations == chat.choices  # nothing stands between a template and an answer
    turns = Asker(task, Manner("chat", "turns", "Be brief.")).ask(one).prompts[0]
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "user"]  # type: ignore[index]
    assert turns[2]["content"] == example["correct"]  # type: ignore[index, call-overload]


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


def test_the_runner_says_what_decided_a_score(tmp_path: Path) -> None:
    model = small_model(max_positions=1024)
    runner = Runner(Subject(Engine(model)), AskSettings(limit=3), seed=4)
    recipe = runner.run(catalogue.task(str(task_file(tmp_path))), str(data(tmp_path))).summary["recipe"]
    assert recipe["limit"] == 3 and recipe["seed"] == 4 and recipe["mode"] == "plain" and recipe["dtype"] == "float32"
    assert recipe["first_prompt"].startswith("Question: Which word")
    assert len(recipe["data"]) == len(recipe["definition"]) == 64
