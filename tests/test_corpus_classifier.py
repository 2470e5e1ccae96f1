"""The text classifier: it learns, tells how sure it may be, explains itself; labels are given by hand and kept."""

from __future__ import annotations

import csv
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from typer.testing import CliRunner

from luhuo.cli import app
from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.corpus import signals
from luhuo.corpus.signals import classifier as module
from luhuo.corpus.signals import labelling
from luhuo.corpus.signals.batch import Batch
from luhuo.corpus.signals.classifier import Classifier, Model
from luhuo.corpus.signals.detection import at_thresholds, calibration
from luhuo.corpus.signals.stages import TextClassifierStage
from luhuo.corpus.signals.text_features import Shape, by_text

DATA = Path(os.environ.get("LUHUO_TEST_DATA", "/nonexistent"))
GOOD = (
    "river",
    "mountain",
    "valley",
    "forest",
    "stone",
    "bird",
    "cloud",
    "rain",
    "山川",
    "河流",
    "森林",
    "鸟鸣",
    "草地",
)
BAD = (
    "coupon",
    "discount",
    "bargain",
    "casino",
    "loan",
    "jackpot",
    "cheap",
    "deal",
    "优惠",
    "折扣",
    "贷款",
    "彩金",
    "红包",
)
TOPICS = {"good": GOOD, "bad": BAD}
BOTH = ("the", "and", "with", "over", "near", "very", "some", "other", "where", "的", "在", "和", "了")
SMALL = {"bits": 14, "held_out": 0.15}


def _rows(count: int, noise: float, seed: int = 1) -> list[dict[str, str]]:
    """Texts of words of a topic and words of both; a share of `noise` has the wrong label."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        topic = rng.choice(("good", "bad"))
        words = [rng.choice(TOPICS[topic] if rng.random() < 0.3 else BOTH) for _ in range(rng.randint(5, 30))]
        other = {"good": "bad", "bad": "good"}[topic]
        found.append({"text": " ".join(words), "label": other if rng.random() < noise else topic})
    return found


def _write(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    data = _write(folder / "labels.jsonl", _rows(3000, 0.1))
    return produce("text-classifier", TextClassifierStage(data=[data], **SMALL), folder / "model").path


def test_it_learns_what_the_labels_mean_and_its_probabilities_know_the_noise(trained: Path) -> None:
    report = json.loads((trained / "report.json").read_text(encoding="utf-8"))
    assert report["accuracy"] > 0.8 > report["majority"] and report["auc"] > 0.85
    assert report["calibration_error"] < 0.15
    assert sum(report["texts"].values()) == sum(report["labels"].values())
    recalls = [row["recall"] for row in report["thresholds"]]
    assert recalls == sorted(recalls, reverse=True)
    best = {word for piece in report["strongest"]["for"] for word in piece.split()}
    assert best & set(TOPICS["good"]) and not best & set(TOPICS["bad"])


def test_a_text_is_explained_by_the_words_that_pulled_it(trained: Path) -> None:
    model = Classifier.load(trained)
    weights = {pull.text: pull.weight for pull in model.explain(" ".join(GOOD + BAD), most=10**6)[1]}
    assert sum(weights[word] for word in GOOD) > 0 > sum(weights[word] for word in BAD)
    score, _ = model.explain("the river and the casino 河流")
    total = sum(pull.weight for pull in model.explain("the river and the casino 河流", most=10**6)[1])
    assert score == pytest.approx(float(module.logistic(np.array([total + model.offset]))[0]), abs=1e-6)


def test_scores_do_not_depend_on_the_company_and_survive_saving(trained: Path, tmp_path: Path) -> None:
    model = Classifier.load(trained)
    texts = [row["text"] for row in _rows(40, 0, seed=3)] + ["", "。", "a\nb\nc"]
    together = signals.measure(texts, "zh", [], [Model({"zh": model})])
    model.save(tmp_path / "again")
    again = Model({"zh": Classifier.load(tmp_path / "again")})
    assert together == [signals.measure([text], "zh", [], [again])[0] for text in texts]
    assert (tmp_path / "again").read_bytes() == (trained / module.FILE).read_bytes()
    assert signals.measure(["a"], "de", [], [again]) == [{}]


def test_the_same_labels_give_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    data = _write(tmp_path / "labels.jsonl", _rows(3000, 0.1))
    again = produce("text-classifier", TextClassifierStage(data=[data], **SMALL), tmp_path / "m").path
    assert (again / module.FILE).read_bytes() == (trained / module.FILE).read_bytes()


def test_a_test_file_is_measured_whole_and_its_texts_are_not_learnt_from(tmp_path: Path) -> None:
    rows = _rows(600, 0)
    stage = TextClassifierStage(
        data=[_write(tmp_path / "a.jsonl", rows)], test=[_write(tmp_path / "b.jsonl", rows[:100])], **SMALL
    )
    report = json.loads((produce("text-classifier", stage, tmp_path / "m").path / "report.json").read_text())
    distinct, asked = len({row["text"] for row in rows}), len({row["text"] for row in rows[:100]})
    assert report["texts"]["test"] == asked
    assert report["texts"]["train"] + report["texts"]["calibration"] == distinct - asked


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda rows: [{"text": row["text"]} for row in rows], "no label"),
        (lambda rows: [row | {"label": "good"} for row in rows], "Too few"),
        (lambda rows: rows[:6], "Too few"),
    ],
)
def test_labels_that_cannot_be_learnt_from_are_refused(
    make: Callable[[list[dict[str, str]]], list[dict[str, str]]], told: str, tmp_path: Path
) -> None:
    data = _write(tmp_path / "labels.jsonl", make(_rows(300, 0)))
    with pytest.raises(LuhuoError, match=told):
        produce("text-classifier", TextClassifierStage(data=[data], **SMALL), tmp_path / "m")


@pytest.mark.parametrize("content", [b"", b"nothing", b'\x08\0\0\0\0\0\0\0{"a":1} '])
def test_what_is_no_classifier_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(LuhuoError, match="text classifier"):
        Classifier.load(tmp_path / "m")


@pytest.mark.parametrize("change", [{"ngrams": 10**9}, {"letters": -1}, {"bits": 40}, {"more": 1}])
def test_a_classifier_of_impossible_shape_is_refused(change: dict[str, int], trained: Path, tmp_path: Path) -> None:
    with safe_open(trained / module.FILE, framework="numpy") as file:
        told, weights = json.loads(file.metadata()["luhuo"]), file.get_tensor("weights")
    told["shape"] |= change
    save_file({"weights": weights}, tmp_path / "m", metadata={"luhuo": json.dumps(told)})
    with pytest.raises(LuhuoError, match="text classifier"):
        Classifier.load(tmp_path / "m")


def test_features_of_a_text_are_its_tokens_pairs_and_sequences_of_letters() -> None:
    buckets, starts = by_text(Batch(["ab cd, ef", "", "猫在山"], "en"), Shape(2, 4, 20))
    assert np.diff(starts).tolist() == [3 + 2 + 6, 0, 3 + 2]
    assert len(set(buckets[:11].tolist())) == 11


def test_real_offensive_chinese_is_told_from_the_rest(tmp_path: Path) -> None:
    if not (DATA / "coldataset").is_dir():
        pytest.skip("LUHUO_TEST_DATA does not say where the real text is")
    stage = TextClassifierStage(
        data=[f"{DATA}/coldataset/dev.csv.gz"], test=[f"{DATA}/coldataset/test.csv.gz"],
        text_field="TEXT", positive="1", epochs=3,
    )  # fmt: skip
    report = json.loads((produce("text-classifier", stage, tmp_path / "m").path / "report.json").read_text())
    assert report["auc"] > 0.8 and report["accuracy"] > report["majority"] + 0.1


def test_calibration_and_thresholds_count_what_they_say() -> None:
    error, bins = calibration(np.array([0.05, 0.05, 0.95, 0.95]), np.array([False, True, True, True]))
    assert bins == [{"said": 0.05, "was": 0.5, "count": 2}, {"said": 0.95, "was": 1.0, "count": 2}]
    assert error == pytest.approx(0.25)
    (row,) = at_thresholds(np.array([0.9, 0.4]), np.array([0.6, 0.1, 0.1]), [0.5])
    assert row == {"threshold": 0.5, "precision": 0.5, "recall": 0.5, "false_alarms": 0.3333}


def _ask(answers: str) -> Callable[[str], str]:
    waiting = iter(answers)
    return lambda menu: next(waiting, "q")


def test_labelling_goes_on_where_it_stopped_and_can_be_undone(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(5)))
    source, target, shown = tmp_path / "t.jsonl", tmp_path / "l.jsonl", list[str]()

    def run(answers: str) -> int:
        return labelling.label(source, target, ["good", "bad"], ask=_ask(answers), show=shown.append)

    def labels() -> list[tuple[str, str]]:
        return [(row["text"], row["label"]) for row in map(json.loads, target.read_text().splitlines())]

    assert run("1xu2gq") == 2  # good, a slip, taken back, bad, good
    assert labels() == [("text 0", "bad"), ("text 1", "good")]
    assert run("sb") == 1 and labels()[-1] == ("text 3", "bad")
    assert run("gg") == 2 and len(labels()) == 5
    shown.clear()
    assert run("") == 0 and shown == []


def test_a_text_cannot_drive_the_terminal() -> None:
    assert labelling.readable("a\x1b[2Jb\x07\u202ec\n") == "a\ufffd[2Jb\ufffd\ufffdc\n"
    assert labelling.readable("x" * 3000).endswith("… (+1500)")


@pytest.mark.parametrize("names", [["good"], ["good", "good"], ["good", "q"], ["good", ""]])
def test_labels_that_are_commands_are_refused(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="cannot be used"):
        labelling.label(tmp_path / "none.txt", tmp_path / "l", names, ask=_ask(""), show=print)


def test_the_commands_label_and_explain(trained: Path, tmp_path: Path) -> None:
    with (tmp_path / "t.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([["body"], ["first"], ["second"]])
    told = CliRunner().invoke(app, ["label", str(tmp_path / "t.csv"), "--text-field", "body"], input="g\n2\n")
    assert told.exit_code == 0 and "2 labels more" in told.output
    rows = [json.loads(line) for line in (tmp_path / "t.csv.labels.jsonl").read_text().splitlines()]
    assert [(row["text"], row["label"]) for row in rows] == [("first", "good"), ("second", "bad")]
    (tmp_path / "text.txt").write_text("a casino and a jackpot", encoding="utf-8")
    told = CliRunner().invoke(app, ["text-classifier-explain", str(trained), f"@{tmp_path / 'text.txt'}"])
    assert told.exit_code == 0 and told.output.startswith("good: 0.") and "'casino'" in told.output
