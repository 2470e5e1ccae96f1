"""Harmful text is flagged by a lexicon and by classifiers, and never dropped by the standard rules."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from pathlib import Path

import pytest

from luhuo.core.artifact import produce
from luhuo.corpus import rules, signals
from luhuo.corpus.factory.records import read_lines, signals_path
from luhuo.corpus.factory.stages import AnnotateStage
from luhuo.corpus.signals.stages import NgramLmStage, SignalModels, TextClassifierStage
from luhuo.corpus.stages import CorpusStage, SourceConfig

DATA = Path(os.environ.get("LUHUO_TEST_DATA", "/nonexistent"))


def _flagged(text: str, lang: str) -> list[str]:
    assert "harmful.score" not in rules.load(lang)
    return rules.broken(rules.flags(lang), signals.measure([text], lang)[0])


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("You are a worthless human, an idiot, and I hope you die.", "en"),
        ("Watch free porn videos with naked girls here tonight, my friend.", "en"),
        ("你这个人渣，真不要脸，滚蛋吧，谁都不想看见你。", "zh"),
        ("附近约炮，裸聊一对一，今晚就来找我们聊天吧。", "zh"),
    ],
)
def test_insults_and_explicit_text_are_flagged(text: str, lang: str) -> None:
    assert _flagged(text, lang) == ["harmful"]


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("How do I kill a Python process? The master node does not respond to the signal.", "en"),
        (
            "Breast cancer screening saves lives; sexual health is taught in every school of Essex and Scunthorpe.",
            "en",
        ),
        ("小日照充足，口交叉路口向东，白痴迷于书法的人很少。", "zh"),
    ],
)
def test_words_that_only_look_alike_are_few_enough(text: str, lang: str) -> None:
    longer = (
        text + (" It is a plain text about plain things of every day." if lang == "en" else "这是一段寻常的话。") * 10
    )
    assert _flagged(longer, lang) == []


def test_one_word_in_a_novel_is_nothing_and_in_a_line_it_is_much() -> None:
    novel = "却说那妇人骂道：“你这贱人！”众人都来劝解，方才罢了。" + "次日天明，各自散去，一路无话。" * 40
    line, page = signals.measure(["你这贱人！", novel], "zh", ["harmful"])
    assert line["harmful.score"] > 0.5 > 0.1 > page["harmful.score"]


def test_a_classifier_finds_what_no_list_has_and_only_in_its_language(tmp_path: Path) -> None:
    if not (DATA / "coldataset").is_dir():
        pytest.skip("LUHUO_TEST_DATA does not say where the real text is")
    stage = TextClassifierStage(
        data=[f"{DATA}/coldataset/dev.csv.gz"], text_field="TEXT", positive="1", epochs=3, bits=16
    )
    model = produce("text-classifier", stage, tmp_path / "m").path
    from luhuo.corpus.signals.models import opened

    models = opened(SignalModels(harmful={"zh": str(model)}).model_dump())
    raw = gzip.decompress((DATA / "coldataset/test.csv.gz").read_bytes()).decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(raw)))[:1500]
    measured = signals.measure([row["TEXT"] for row in rows], "zh", [], models)
    plain = signals.measure([row["TEXT"] for row in rows], "zh", ["harmful"])
    bad = [row["label"] == "1" for row in rows]
    recall, alone = (
        sum(value["harmful.score"] > 0.5 for value, b in zip(found, bad, strict=True) if b) / sum(bad)
        for found in (measured, plain)
    )
    assert recall > 0.65 > 0.2 > alone
    assert all(a["harmful.score"] >= b["harmful.score"] for a, b in zip(measured, plain, strict=True))
    assert "harmful.classifier" not in signals.measure(["text"], "en", [], models)[0]


def test_annotate_measures_with_models(tmp_path: Path) -> None:
    lines = [f"The cat number {i} sat on the mat and looked at the hat of man {i * i}." for i in range(60)]
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines), encoding="utf-8")
    labels = [{"text": line, "label": "good" if i % 2 else "bad"} for i, line in enumerate(lines)]
    for row in labels:
        row["text"] = row["text"].replace("cat", "dog") if row["label"] == "bad" else row["text"]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labels), encoding="utf-8")
    source = {"name": "raw", "path": str(tmp_path / "raw.jsonl"), "lang": "en"}
    corpus = produce("corpus", CorpusStage(sources=[SourceConfig(**source, valid=0.2)]), tmp_path / "corpus").path
    ngram = produce("ngram-lm", NgramLmStage(corpus=str(corpus), lang="en"), tmp_path / "ngram").path
    quality = produce(
        "text-classifier", TextClassifierStage(data=[str(tmp_path / "labels.jsonl")], bits=12), tmp_path / "quality"
    ).path
    stage = AnnotateStage.parse(
        {
            "sources": [source],
            "signals": ["shape"],
            "models": {"perplexity": [str(ngram)], "quality": {"en": str(quality)}},
            "executor": "inline",
        }
    )
    done = produce("annotate", stage, tmp_path / "annotated").path
    unit = json.loads((done / "units.json").read_text(encoding="utf-8"))["units"][0]["name"]
    rows = list(read_lines(signals_path(done, unit)))
    assert len(rows) == len(lines)
    assert all(1 < row["perplexity.char"] < 20 and row["quality.score"] > 0.4 for row in rows)
