"""Tasks that are no choice: what they read and compute, full marks and no marks, and the published data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from luhuo.core.errors import LuhuoError
from luhuo.evaluation.asking import AskSettings
from luhuo.evaluation.runner import Runner, Subject
from luhuo.evaluation.search import BM25, terms
from luhuo.evaluation.tasks import catalogue
from luhuo.evaluation.tasks.documents import documents
from luhuo.evaluation.tasks.gaokao_bench import answers
from luhuo.evaluation.tasks.humaneval import program
from luhuo.evaluation.tasks.probe import fitted, folded
from luhuo.evaluation.tasks.requests import Asker
from luhuo.inference.engine import Engine
from tests.generation_cases import CASES, CLOZE, EXAM, GAOKAO, HUMANEVAL, MBPP, PHYSICS, SEVERAL, only, written
from tests.small_chat import small_model


@pytest.mark.parametrize(("name", "files", "right", "wrong", "metrics"), CASES)
def test_a_right_reply_gets_full_marks_and_a_wrong_one_none(
    tmp_path: Path, name: str, files: dict[str, Any], right: str, wrong: str, metrics: tuple[str, ...]
) -> None:
    task, document = only(name, written(tmp_path, files))
    score = task.functions.find("score")
    assert score is not None
    assert {metric: score(document.fields, [right])[metric] for metric in metrics} == dict.fromkeys(metrics, 1.0)
    assert {metric: score(document.fields, [wrong])[metric] or 0.0 for metric in metrics} == dict.fromkeys(
        metrics, 0.0
    )
    assert set(task.spec.metrics) & set(score(document.fields, [right]))


def test_every_item_can_be_asked_and_none_shows_its_answer(tmp_path: Path) -> None:
    for number, (name, files, *_) in enumerate(CASES):
        task, document = only(name, written(tmp_path / str(number), files))
        prompt = Asker(task).ask(document).prompts[0]
        text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        assert text.strip()
        assert "canonical" not in text


def test_samples_of_a_program_give_pass_at_k_and_their_failures(tmp_path: Path) -> None:
    task, document = only("humaneval", written(tmp_path, {"HumanEval.jsonl": [HUMANEVAL]}))
    score = task.functions.find("score")
    assert score is not None
    outputs = ["    return a + b\n", "    return a\n", "    return c\n", "    return (\n"] * 3
    found = score(document.fields, outputs[:10])
    assert found["pass@1"] == pytest.approx(0.3)
    assert found["pass@10"] == 1
    assert (found["wrong"], found["crashed"], found["not_compiled"]) == (0.3, 0.2, 0.2)
    assert found["timed_out"] == 0


def test_a_reply_that_writes_the_function_anew_is_not_put_behind_the_old_one() -> None:
    prompt = "import math\n\ndef area(r):\n    '''Of a circle.'''\n"
    whole = program(prompt, "```python\ndef area(r):\n    return math.pi * r * r\n```", "area")
    space: dict[str, Any] = {}
    exec(compile(whole, "whole", "exec"), space)
    assert space["area"](1) == pytest.approx(3.14159, abs=1e-4)
    assert program(prompt, "    return 1\n", "area") == prompt + "    return 1\n"
    cut_off = program(prompt, "Sure:\n```python\ndef area(r):\n    return 3 * r\n", "area")
    assert cut_off.endswith("    pass\n\ndef area(r):\n    return 3 * r\n")


def test_splits_of_mbpp_are_ranges_of_numbers_and_the_papers_examples_come_first(tmp_path: Path) -> None:
    rows = [{**MBPP, "task_id": number} for number in (1, 2, 3, 4, 10, 11, 510, 511, 974)]
    folder = written(tmp_path, {"mbpp.jsonl": rows})
    task = catalogue.task("mbpp")
    found = documents(task, folder, limit=None, seed=0)
    assert [document.id for document in found] == ["11", "510"]
    assert [row["task_id"] for row in found[0].examples] == [2, 3, 4]


@pytest.mark.parametrize(
    ("reply", "count", "multiple", "expected"),
    [
        ("【解析】先看 A。【答案】C", 1, False, ["C"]),
        ("选 B，因为 A 错。答案：D", 1, False, ["D"]),
        ("DBCA", 4, False, ["D", "B", "C", "A"]),
        ("1. D 2. B", 2, False, ["D", "B"]),
        ("DNA", 1, False, None),
        ("A", 2, False, None),
        ("D C A", 1, True, ["ACD"]),
        ("我不知道", 1, True, None),
    ],
)
def test_letters_are_found_blank_by_blank(reply: str, count: int, multiple: bool, expected: list[str] | None) -> None:
    assert answers(reply, count, multiple=multiple) == expected


def test_half_an_answer_with_several_letters_is_worth_half_its_points(tmp_path: Path) -> None:
    folder = written(tmp_path, {"2010-2022_Physics_MCQs.json": {"example": [PHYSICS, GAOKAO]}})
    task = catalogue.task("gaokao_bench")
    found = [document.fields for document in documents(task, folder, limit=None, seed=0)]
    score, corpus = task.functions.find("score"), task.functions.find("corpus")
    assert score is not None
    assert corpus is not None
    assert score(found[0], ["AC"]) == {"points": 0.5, "exact": 0.0}
    assert score(found[0], ["ABC"])["points"] == 0
    assert corpus(found, [["AC"], ["B"]])["rate"]["value"] == pytest.approx((3 + 4) / (6 + 4))


def test_exams_with_several_right_options_are_asked_apart_from_the_others(tmp_path: Path) -> None:
    folder = written(tmp_path, {"jec-qa-kd.jsonl": [EXAM, SEVERAL], "sat-math.jsonl": [EXAM], "math.jsonl": [CLOZE]})
    task, document = only("agieval_zh", folder)
    assert document.subject == "jec-qa-kd"
    assert Asker(task).ask(document).right == (1, 0)
    english, document = only("agieval_en", folder)
    asked = Asker(english).ask(document)
    assert asked.prompts == ("Q: 1 + 1 = ? Answer Choices: (A)2 (B)3\nA: Among A through B, the answer is",)
    assert asked.continuations == (" A", " B")
    assert only("agieval_multiple", folder)[1].fields["label"] == "AC"


@pytest.mark.parametrize("name", ["drcd", "mbpp", "gaokao_bench", "agieval_zh", "tatoeba_zh_en", "cranfield"])
def test_a_folder_without_the_data_is_told_what_belongs_there(tmp_path: Path, name: str) -> None:
    written(tmp_path, {"other.txt": ["x"]})
    task = catalogue.task(name)
    runner = Runner(Subject(Engine(small_model())), AskSettings(limit=1))
    with pytest.raises(LuhuoError) as caught:
        runner.run(task, str(tmp_path))
    assert "json" in str(caught.value)
    assert "other.txt" in str(caught.value)


def test_bm25_equals_a_plain_computation() -> None:
    import math

    texts = {"a": "red red fox", "b": "red dog", "c": "blue bird sings here"}
    index = BM25(texts)
    mean, count = 9 / 3, 3
    idf = math.log(1 + (count - 2 + 0.5) / (2 + 0.5))
    expected = [
        idf * times * 2.2 / (times + 1.2 * (1 - 0.75 + 0.75 * length / mean)) for times, length in ((2, 3), (1, 2))
    ]
    assert index.scores("red").tolist() == pytest.approx([*expected, 0.0])
    assert index.ranking("red", 10) == ["a", "b"]
    assert terms("The wings of 飞机翼") == ["wing", "飞", "机", "翼", "飞机", "机翼"]


def test_a_probe_learns_what_can_be_told_apart_and_nothing_else() -> None:
    random_numbers = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    told = torch.randn(200, 8, generator=random_numbers) + 3 * labels[:, None]
    noise = torch.randn(200, 8, generator=random_numbers)
    folds = [number % 5 for number in range(200)]
    assert (folded(told, labels, folds) == labels).double().mean() > 0.95
    assert 0.35 < (folded(noise, labels, folds) == labels).double().mean() < 0.65
    assert (fitted(told[:100], labels[:100], told[100:]) == labels[100:]).double().mean() > 0.95


# The published data

SIZES = {
    "ifeval": ("ifeval", 541),
    "humaneval": ("humaneval", 123),
    "mbpp": ("mbpp", 500),
    "drcd": ("zh_wiki_qa", 3493),
    "cmrc": ("zh_wiki_qa", 3219),
    "dialogsum": ("summarisation", 500),
    "csl_title": ("summarisation", 1000),
    "wmt23_zh_en": ("translation_zh_en", 1976),
    "wmt23_en_zh": ("translation_zh_en", 2074),
    "gaokao_bench": ("gaokao_bench", 1781),
    "agieval_cloze": ("agieval", 118),
    "math": ("agieval", 1000),
    "rte": ("commonsense", 277),
    "copa": ("commonsense", 100),
}


@pytest.mark.parametrize("name", SIZES)
def test_the_published_data_are_read_whole_and_their_golds_get_full_marks(name: str) -> None:
    folder = Path(os.environ.get("LUHUO_TEST_DATA", "")) / SIZES[name][0]
    if not os.environ.get("LUHUO_TEST_DATA") or not folder.is_dir():
        pytest.skip(f"LUHUO_TEST_DATA names no folder with {SIZES[name][0]}")
    task = catalogue.task(name)
    found = documents(task, folder, limit=None, seed=0, shots=0)
    assert len(found) == SIZES[name][1]
    score, reference = task.functions.find("score"), task.functions.find("reference")
    if score is not None and reference is not None and name != "math":
        for document in found[:: max(1, len(found) // 40)]:
            scores = score(document.fields, [reference(document.fields)])
            assert scores[task.spec.metrics[0] if task.spec.metrics[0] != "chrf" else "sentence_chrf"] == 1, (
                document.id
            )
