"""Benchmarks as data: task files, their data, items and prompts, and what bad input says."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest

from luhuo.core.atomic import write_text
from luhuo.core.errors import LuhuoError
from luhuo.evaluation.tasks import catalogue
from luhuo.evaluation.tasks.documents import documents
from luhuo.evaluation.tasks.requests import Asker, Manner
from luhuo.evaluation.tasks.show import described
from tests.evaluation_cases import WRITING, data, run, task_file
from tests.small_chat import small_model


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
