"""Tasks that are no choice: what they read, what full marks and no marks look like, and a run on a small model."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from luhuo import sandbox
from luhuo.core.errors import LuhuoError
from luhuo.evaluation.asking import AskSettings
from luhuo.evaluation.programs import trial
from luhuo.evaluation.runner import Runner, Subject
from luhuo.evaluation.search import BM25, terms
from luhuo.evaluation.tasks import catalogue
from luhuo.evaluation.tasks.documents import Document, documents
from luhuo.evaluation.tasks.gaokao_bench import answers
from luhuo.evaluation.tasks.humaneval import program
from luhuo.evaluation.tasks.probe import fitted, folded
from luhuo.evaluation.tasks.requests import Asker
from luhuo.inference.engine import Engine
from luhuo.model.encoder import Encoder
from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.initialise_stack import initialise_stack
from tests.chat_endpoint import chat_endpoint
from tests.small_chat import small_model, small_tokenizer

Rows = list[dict[str, Any]]
SQUAD = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": "光荣公司位于横滨。",
                    "qas": [
                        {"id": "Q1", "question": "光荣公司在哪里？", "answers": [{"text": "横滨"}, {"text": "横滨市"}]}
                    ],
                }
            ]
        }
    ]
}
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'def add(a, b):\n    """The sum."""\n',
    "entry_point": "add",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
}
MBPP = {
    "task_id": 11,
    "text": "Write a sum.",
    "code": "def sum(a, b):\n  return a + b",
    "test_setup_code": "",
    "test_list": ["assert sum(1, 2) == 3", "assert sum(0, 0) == 0", "assert sum(2, 2) == 4"],
}
IFEVAL = {
    "key": 7,
    "prompt": "Say it without commas in capitals.",
    "instruction_id_list": ["punctuation:no_comma", "startend:quotation"],
    "kwargs": [{}, {}],
}
GAOKAO = {"question": "1. … A. 甲 B. 乙", "answer": ["B"], "score": 4, "index": 0}
READING = {"question": "阅读 …", "answer": ["A", "C", "B"], "score": 2, "index": 1}
PHYSICS = {"question": "多选 …", "answer": ["ACD"], "score": 6, "index": 2}
EXAM = {"passage": None, "question": "1 + 1 = ?", "options": ["(A)2", "(B)3"], "label": "A", "answer": None}
SEVERAL = {
    "passage": None,
    "question": "偶数?",
    "options": ["(A)2", "(B)3", "(C)4"],
    "label": ["C", "A"],
    "answer": None,
}
CLOZE = {"passage": None, "question": "$x=$", "options": None, "label": None, "answer": "$\\frac{1}{2}$"}
MATHS = {"problem": "Half?", "solution": "It is $\\boxed{\\frac{1}{2}}$.", "level": "Level 1", "type": "Algebra"}
WORLD = {
    "id": "w1",
    "family": "recall",
    "lang": "en",
    "messages": [{"role": "user", "content": "Where?"}],
    "answer": "Paris",
    "check": {"kind": "exact", "answers": ["Paris"]},
    "chance": 0.1,
}
DIALOGUE = {"fname": "t0", "dialogue": "#Person1#: Hi.", "summary1": "A greeting.", "summary2": "#Person1# says hi."}

# (task, files of its data, a reply with full marks, a reply without any, metrics)
CASES: list[tuple[str, dict[str, Any], str, str, tuple[str, ...]]] = [
    ("ifeval", {"input_data.jsonl": [IFEVAL]}, '"NO PAUSE"', "Well, no.", ("prompt_strict", "prompt_loose")),
    ("humaneval", {"HumanEval.jsonl.gz": [HUMANEVAL]}, "    return a + b\n", "    return a\n", ("pass@1",)),
    (
        "humaneval_chat",
        {"HumanEval.jsonl": [HUMANEVAL]},
        "Sure:\n```python\ndef add(a, b):\n    return a + b\n```",
        "I cannot.",
        ("pass@1",),
    ),
    ("mbpp", {"mbpp.jsonl": [MBPP]}, "def sum(a, b):\n  return a + b\n[DONE]", "def sum(a, b): return 0", ("pass@1",)),
    ("cmrc", {"cmrc2018_dev.json": SQUAD}, "横滨市。", "东京", ("f1", "exact")),
    ("drcd", {"DRCD_test.json": SQUAD}, "<think>…</think>横滨\n因为", "", ("f1", "exact")),
    (
        "dialogsum",
        {"dialogsum.test.jsonl": [DIALOGUE]},
        "#Person1# says hi.",
        "xyz",
        ("rouge1", "rougeL", "rougeLsum"),
    ),
    (
        "csl_title",
        {"csl_title_test.jsonl": [{"abstract": "…", "title": "炉火的训练"}]},
        "炉火的训练",
        "水",
        ("rouge1", "rougeL", "jieba.rougeL"),
    ),
    (
        "wmt23_zh_en",
        {"wmt23_zh2en.jsonl": [{"src": "你好", "ref": "Hello there"}]},
        "Hello there",
        "",
        ("sentence_chrf",),
    ),
    (
        "tatoeba_en_zh",
        {"tatoeba_cmn_eng.jsonl": [{"en": "Hi.", "zh": "嗨。"}, {"en": "Hi.", "zh": "你好。"}]},
        "你好。",
        "",
        ("sentence_chrf",),
    ),
    (
        "gaokao_bench",
        {"2010-2022_History_MCQs.json": {"example": [GAOKAO]}},
        "【解析】A 不对。【答案】B",
        "A",
        ("points", "exact"),
    ),
    (
        "gaokao_bench",
        {"2010-2022_English_Reading_Comp.json": {"example": [READING]}},
        "ACB",
        "B, B, C",
        ("points", "exact"),
    ),
    ("gaokao_bench", {"2010-2022_Physics_MCQs.json": {"example": [PHYSICS]}}, "A、C、D", "AB", ("points", "exact")),
    ("agieval_multiple", {"jec-qa-kd.jsonl": [EXAM, SEVERAL]}, "A, C", "A", ("exact",)),
    ("agieval_cloze", {"gaokao-mathcloze.jsonl": [CLOZE]}, "答案：1/2", "2", ("exact", "lenient")),
    ("math", {"test/algebra/1.json": MATHS}, "So \\boxed{0.5}.", "\\boxed{2}", ("exact", "lenient")),
    ("world", {"dialogue/test.jsonl": [WORLD]}, "Paris.", "Rome", ("accuracy",)),
    ("world_plain", {"test.jsonl": [WORLD]}, "Paris", "", ("accuracy",)),
]


def written(folder: Path, files: dict[str, Any]) -> Path:
    """A folder with the files: lists as JSON lines, other values as JSON."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = content if isinstance(content, list) else [content]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return folder


def only(name: str, folder: Path) -> tuple[catalogue.Task, Document]:
    task = catalogue.task(name)
    (document,) = documents(task, folder, limit=None, seed=0, shots=0)
    return task, document


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


# Runs on a small model


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(small_model(), max_batch=8)


def test_the_four_numbers_of_ifeval_come_out_of_a_run(tmp_path: Path, engine: Engine) -> None:
    rows = [{**IFEVAL, "key": number} for number in range(3)]
    folder = written(tmp_path, {"input_data.jsonl": rows})
    result = Runner(Subject(engine), AskSettings(max_tokens=8)).run(catalogue.task("ifeval"), str(folder))
    shown = {name: result.summary["metrics"][name] for name in catalogue.task("ifeval").spec.metrics}
    assert all(score["low"] <= score["value"] <= score["high"] for score in shown.values())
    assert result.summary["n"] == 3


def test_programs_are_run_on_a_machine_that_cannot_hold_them_only_where_the_user_insists(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path, {"HumanEval.jsonl": [HUMANEVAL]})
    monkeypatch.setattr(sandbox, "protections", lambda: sandbox.Protections(("network",), "not allowed"))
    trial.ready.cache_clear()
    try:
        with pytest.raises(LuhuoError, match=r"untrusted code|不可信"):
            Runner(Subject(engine), AskSettings(max_tokens=4)).run(catalogue.task("humaneval"), str(folder))
        insisting = Runner(Subject(engine), AskSettings(max_tokens=4, weak=True))
        assert insisting.run(catalogue.task("humaneval"), str(folder)).summary["n"] == 1
    finally:
        trial.ready.cache_clear()
        trial.INSIST.set(False)


def test_a_run_of_choices_says_how_well_the_model_knows_what_it_knows(tmp_path: Path, engine: Engine) -> None:
    rows = [{"sentence": f"film {n}", "label": n % 2} for n in range(6)]
    folder = written(tmp_path, {"sst2_validation.jsonl": rows})
    summary = Runner(Subject(engine), AskSettings()).run(catalogue.task("sst2"), str(folder)).summary
    bins = summary["calibration"]["bins"]
    gap = sum(one["n"] * abs(one["confidence"] - one["accuracy"]) for one in bins) / 6
    assert summary["metrics"]["ece"]["value"] == pytest.approx(gap)


def test_bleu_of_a_run_is_of_the_whole_set_and_has_its_signature(tmp_path: Path, engine: Engine) -> None:
    folder = written(tmp_path, {"wmt23_en2zh.jsonl": [{"src": "Hi", "ref": "你好"}, {"src": "No", "ref": "不"}]})
    result = Runner(Subject(engine), AskSettings(max_tokens=8)).run(catalogue.task("wmt23_en_zh"), str(folder))
    assert "tok:zh" in result.summary["metrics"]["bleu"]["signature"]
    assert 0 <= result.summary["metrics"]["chrf"]["value"] <= 1


def test_retrieval_ranks_by_vectors_and_by_bm25_beside(tmp_path: Path, engine: Engine) -> None:
    texts = {
        "d1": "the wing of an aircraft",
        "d2": "heat in a slab of metal",
        "d3": "炉火烧得很旺",
        "d4": "水流得很慢",
    }
    queries = {"q1": "aircraft wings", "q2": "炉火", "q3": "nobody judged this"}
    folder = written(
        tmp_path,
        {
            "corpus.jsonl": [{"_id": name, "title": "", "text": text} for name, text in texts.items()],
            "queries.jsonl": [{"_id": name, "text": text} for name, text in queries.items()],
        },
    )
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\nq2\td3\t1\nq2\td4\t0\n")
    result = Runner(Subject(engine), AskSettings()).run(catalogue.task("cranfield"), str(folder))
    assert result.summary["n"] == 2
    assert result.summary["metrics"]["bm25.ndcg@10"]["value"] == 1
    assert result.summary["metrics"]["recall@10"]["value"] == 1  # all four documents are among ten
    exact = Runner(Subject(engine), AskSettings()).run(catalogue.task("cranfield"), str(folder))
    assert [row["scores"] for row in exact.rows] == [row["scores"] for row in result.rows]


def test_a_document_equal_to_the_query_is_found_first_by_its_vector(tmp_path: Path, engine: Engine) -> None:
    texts = {f"d{n}": text for n, text in enumerate(["hello world", "good night", "你好", "炉火", "a b c"])}
    folder = written(
        tmp_path,
        {
            "corpus.jsonl": [{"_id": name, "text": text} for name, text in texts.items()],
            "queries.jsonl": [{"_id": f"q{name}", "text": text} for name, text in texts.items()],
        },
    )
    judged = "".join(f"q{name}\t{name}\t1\n" for name in texts)
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    result = Runner(Subject(engine), AskSettings()).run(catalogue.task("cranfield"), str(folder))
    assert result.summary["metrics"]["mrr@10"]["value"] == 1


@pytest.mark.parametrize("mode", ["plain", "chat"])
def test_every_rotation_of_the_options_is_asked_and_letters_are_counted(
    tmp_path: Path, engine: Engine, mode: Any
) -> None:
    rows = [
        {
            "question": f"第{n}题？",
            "A": "甲",
            "B": "乙",
            "C": "丙",
            "D": "丁",
            "answer": "ABCD"[n % 4],
            "subject": "arts",
        }
        for n in range(3)
    ]
    folder = written(tmp_path, {"test.jsonl": rows})
    runner = Runner(Subject(engine), AskSettings(mode=mode, max_tokens=4))
    result = runner.run(catalogue.task("cmmlu_circular"), str(folder))
    found = {name: score["value"] for name, score in result.summary["metrics"].items()}
    assert set(catalogue.task("cmmlu_circular").spec.metrics) <= set(found)
    assert sum(found[f"letter.{name}"] for name in "ABCD") == pytest.approx(1)
    assert found["by_rule"] + found["by_judge"] + found["by_random"] == pytest.approx(1)
    assert found["circular"] <= found["vote"] <= 1
    assert sum(found[f"recall.{name}"] for name in "ABCD") / 4 == pytest.approx(found["single"])


def test_circulareval_asks_the_judge_that_was_named_what_a_reply_means(engine: Engine, tmp_path: Path) -> None:
    row = {"question": "一？", "A": "甲", "B": "乙", "C": "丙", "D": "丁", "answer": "A", "subject": "arts"}
    folder = written(tmp_path, {"test.jsonl": [row]})
    likely = [{"token": name, "logprob": -0.1 if name == "C" else -5.0} for name in "ABCDE"]
    said = {"content": [{"top_logprobs": likely}]}
    choice = {"message": {"content": "C"}, "finish_reason": "stop", "logprobs": said}
    with chat_endpoint(lambda _: choice) as (place, asked):
        settings = AskSettings.parse({"max_tokens": 4, "judge": {"endpoint": place}})
        result = Runner(Subject(engine), settings).run(catalogue.task("cmmlu_circular"), str(folder))
    found = {name: score["value"] for name, score in result.summary["metrics"].items()}
    assert found["by_judge"] > 0 and found["by_random"] == 0
    assert len(asked) == round(4 * found["by_judge"])
    assert all("都不是" in messages[-1]["content"] for messages in asked)


def small_encoder() -> Encoder:
    """A BERT of random weights with the small tokenizer."""
    tokenizer = small_tokenizer()
    config = EncoderConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=16,
        intermediate_size=32,
        layers=1,
        heads=2,
        head_dim=8,
        max_positions=64,
    )
    model = Encoder(config)
    model.tokenizer = tokenizer
    initialise_stack(model, seed=0)
    return model.eval()


def test_an_encoder_is_asked_to_retrieve_and_to_be_probed_and_nothing_else(tmp_path: Path) -> None:
    runner = Runner(Subject(Engine(small_encoder())), AskSettings())
    rows = [{"sentence": f"{'good' if n % 2 else 'bad'} {n}" * 30, "label": n % 2} for n in range(20)]
    folder = written(tmp_path, {"sst2_validation.jsonl": rows, "mbpp.jsonl": [MBPP]})
    assert runner.run(catalogue.task("sst2_probe"), str(folder)).summary["n"] == 20
    with pytest.raises(LuhuoError, match=r"writes|生成"):
        runner.run(catalogue.task("mbpp"), str(folder))


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


def test_needles_lie_at_all_depths_and_lengths_and_fit_the_context() -> None:
    long = Engine(small_model(max_positions=1200))
    result = Runner(Subject(long), AskSettings(limit=12)).run(catalogue.task("needle"))
    assert result.summary["n"] == 12
    assert {row["lang"] for row in result.rows} == {"en", "zh"}
    assert len({row["group"] for row in result.rows}) > 2
    assert all(int(row["subject"].split()[0]) < 1200 for row in result.rows)
    with pytest.raises(LuhuoError, match=r"too short|太短"):
        Runner(Subject(long), AskSettings(context=64)).run(catalogue.task("needle"))


def test_the_answer_to_a_needle_is_in_its_text_once_and_other_numbers_too(engine: Engine) -> None:
    import random
    import re

    from luhuo.evaluation.tasks import needle

    for lang, words in needle.LANGUAGES.items():
        for depth in needle.DEPTHS:
            needles = [words.needle.format(town=words.towns[n], number=10_000 + n) for n in range(4)]
            draw = random.Random(0)
            prompt = needle._fitted(engine, words, needles, words.towns[0], depth, 900, draw, chat=False)
            assert isinstance(prompt, str)
            assert 800 < len(engine.prompt_ids(prompt)) <= 900, lang
            text = prompt.partition("\n\n")[2].partition("\n\n")[0]
            assert abs(text.index(needles[0]) / (len(text) - len(needles[0])) - depth) < 0.1
            assert sorted(re.findall(r"\d+", prompt)) == ["10000", "10001", "10002", "10003"]


def test_a_probe_learns_what_can_be_told_apart_and_nothing_else() -> None:
    random_numbers = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    told = torch.randn(200, 8, generator=random_numbers) + 3 * labels[:, None]
    noise = torch.randn(200, 8, generator=random_numbers)
    folds = [number % 5 for number in range(200)]
    assert (folded(told, labels, folds) == labels).double().mean() > 0.95
    assert 0.35 < (folded(noise, labels, folds) == labels).double().mean() < 0.65
    assert (fitted(told[:100], labels[:100], told[100:]) == labels[100:]).double().mean() > 0.95


def test_a_probe_on_a_models_vectors_is_run_with_and_without_a_training_split(tmp_path: Path, engine: Engine) -> None:
    rows = [{"sentence": f"{'good' if n % 2 else 'bad'} {n}", "label": n % 2} for n in range(40)]
    folder = written(tmp_path, {"sst2_validation.jsonl": rows})
    result = Runner(Subject(engine), AskSettings()).run(catalogue.task("sst2_probe"), str(folder))
    assert (result.summary["n"], result.summary["metrics"]["accuracy"]["chance"]) == (40, 0.5)
    lines = ["TEXT,label", *(f"{'好' if n % 2 else '坏'}{n},{n % 2}" for n in range(30))]
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text("\n".join(lines), encoding="utf-8")
    cold = Runner(Subject(engine), AskSettings()).run(catalogue.task("cold_probe"), str(folder))
    assert cold.summary["metrics"]["accuracy"]["value"] > 0.9  # the very rows it learned from


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
