"""Tasks that are no choice, run on a small model: what is asked, what is counted, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from luhuo import sandbox
from luhuo.core.errors import LuhuoError
from luhuo.evaluation.asking import AskSettings
from luhuo.evaluation.programs import trial
from luhuo.evaluation.runner import Runner, Subject
from luhuo.evaluation.tasks import catalogue
from luhuo.inference.engine import Engine
from luhuo.model.encoder import Encoder
from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.initialise_stack import initialise_stack
from tests.chat_endpoint import chat_endpoint
from tests.generation_cases import HUMANEVAL, IFEVAL, MBPP, written
from tests.small_chat import small_model, small_tokenizer


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
