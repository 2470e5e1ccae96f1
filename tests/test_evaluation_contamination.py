"""Is the test in the training text, and does the model know it: planted items are found, clean ones are not."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.corpus.shards import ShardWriter
from luhuo.evaluation.contamination import Overlap, TestItem, counts
from luhuo.evaluation.contamination_sources import training_documents, without_template
from luhuo.evaluation.contamination_stages import ContaminationStage, MembershipStage
from luhuo.evaluation.membership import METHODS, auc, compare, score, separate, token_scores
from luhuo.model.decoder import Decoder
from luhuo.model.save import save
from tests.small_chat import small_model, small_tokenizer

WORDS = [
    f"{a}{b}" for a in ("ka", "lo", "mi", "ne", "ru", "sta", "ven", "zor") for b in ("ba", "do", "fi", "gu", "le")
]
HAN = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多"


def english(seed: int, count: int = 30) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def chinese(seed: int, count: int = 40) -> str:
    return "".join(random.Random(seed).choices(HAN, k=count))


def test_items_planted_in_training_text_are_found_and_others_are_not() -> None:
    items = [TestItem(f"en{n}", english(n)) for n in range(20)] + [TestItem(f"zh{n}", chinese(n)) for n in range(20)]
    index = Overlap(items)
    for n in range(100):
        index.show(f"noise{n}", english(1000 + n, 200) + chinese(2000 + n, 200))
    index.show("leak", f"{english(500)} {items[3].text} {chinese(501)}。{items[25].text}{chinese(502)}")
    found = {finding.item.id: finding for finding in index.findings()}
    assert {name for name, finding in found.items() if finding.verdict == "dirty"} == {"en3", "zh5"}
    assert all(finding.share == 0 for name, finding in found.items() if name not in ("en3", "zh5"))
    assert found["en3"].documents == ("leak",)
    assert found["en3"].longest == items[3].text
    assert counts(found.values()) == {"clean": 38, "partly": 0, "dirty": 2, "too_short": 0}


def test_case_marks_spaces_and_compatibility_forms_do_not_hide_an_item() -> None:
    item = "Who wrote the Dream of the Red Chamber, and when was it first printed in full?"
    han = "中国的首都是哪里？请写出它的名称、人口与建成年代。"
    index = Overlap([TestItem("en", item), TestItem("zh", han)])
    index.show("a", item.upper().replace(",", " --").replace(" ", "\n"))
    index.show("b", han.replace("？", "?\n").replace("、", " ").replace("的", " 的 "))
    assert [finding.share for finding in index.findings()] == [1.0, 1.0]


def test_half_an_item_is_told_from_a_whole_one() -> None:
    text = english(1, 40)
    index = Overlap([TestItem("half", text)])
    index.show("a", " ".join(text.split()[:20]) + " " + english(7, 30))
    (finding,) = index.findings()
    assert finding.verdict == "partly"
    assert finding.share == pytest.approx(0.5)


def test_short_items_are_looked_for_whole_and_shorter_ones_not_at_all() -> None:
    items = [TestItem("nine", english(1, 9)), TestItem("five", english(2, 5)), TestItem("han", chinese(3, 8))]
    index = Overlap(items)
    index.show("a", f"x {items[0].text} y {items[1].text} {items[2].text}")
    assert [finding.verdict for finding in index.findings()] == ["dirty", "too_short", "dirty"]


def test_what_many_documents_share_is_no_evidence() -> None:
    boilerplate = english(5, 20)
    index = Overlap([TestItem("a", f"{boilerplate} {english(6, 20)}")], common=3)
    for n in range(4):
        index.show(str(n), boilerplate)
    assert index.findings()[0].share == 0
    fewer = Overlap([TestItem("a", f"{boilerplate} {english(6, 20)}")], common=4)
    for n in range(4):
        fewer.show(str(n), boilerplate)
    assert fewer.findings()[0].share == pytest.approx(0.5)


def test_the_length_of_an_n_gram_can_be_chosen() -> None:
    text = chinese(1, 30)
    for size, expected in ((8, 10 / 30), (10, 10 / 30), (11, 0.0)):
        index = Overlap([TestItem("a", text)], han=size)
        index.show("doc", chinese(9, 20) + text[5:15] + chinese(8, 20))
        assert index.findings()[0].share == pytest.approx(expected)


def test_words_that_all_questions_of_a_task_share_are_not_looked_for() -> None:
    asked = [f"Here is your task: {english(n)}\nAnswer in one line.\nAnswer:" for n in range(5)]
    assert [text.strip() for text in without_template(asked)] == [english(n) for n in range(5)]
    assert without_template(["the same", "the same"]) == ["", ""]
    assert without_template(["one alone"]) == ["one alone"]


# Where training text lies


def test_training_text_is_read_from_rows_of_any_layout(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "甲"}, {"role": "assistant", "content": "乙"}]}, {"text": "c"}]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "plain.txt").write_text("one two", encoding="utf-8")
    (tmp_path / "LICENCE").write_text("not a text of the set", encoding="utf-8")
    found = dict(training_documents(tmp_path))
    assert "甲" in found["chat.jsonl:1"]
    assert "乙" in found["chat.jsonl:1"]
    assert found["chat.jsonl:2"] == "c"
    assert "one two" in "".join(found.values())
    assert "not a text" not in "".join(found.values())


def test_shards_are_decoded_with_their_tokenizer(tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    tokenizer.save(tmp_path / "tokenizer")
    writer = ShardWriter(tmp_path / "shards" / "train", tokenizer, 2**20)
    texts = ["你好，世界", "hello world", "炉火"]
    for number, text in enumerate(texts):
        document = {"id": str(number), "text": text, "lang": "zh", "source": "s", "licence": "CC0"}
        writer.add(document, [*tokenizer.encode(text), tokenizer.eos_id])
    writer.close()
    assert [text for _, text in training_documents(tmp_path / "shards", tmp_path / "tokenizer")] == texts
    with pytest.raises(LuhuoError, match=r"tokenizer|分词器"):
        list(training_documents(tmp_path / "shards"))


def quiz(folder: Path) -> tuple[Path, list[str]]:
    """A task of ten questions and its file; the questions are long enough to be found again."""
    questions = [english(n, 25) for n in range(10)]
    rows = [
        {"id": f"q{n}", "question": text, "options": ["yes", "no"], "right": 0} for n, text in enumerate(questions)
    ]
    (folder / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    lines = [
        "task: my_quiz", "version: 1", "summary: {en: Quiz., zh: 测验。}", "languages: [en]", "licence: CC0",
        "source: ours", "kind: choice", 'data: {layouts: [{files: {test: "quiz.jsonl"}}]}',
        'prompt: "{{question}}\\nAnswer:"', "choices: options", "answer: right", "metrics: [acc]",
    ]  # fmt: skip
    (folder / "my_quiz.yaml").write_text("\n".join(lines), encoding="utf-8")
    return folder / "my_quiz.yaml", questions


def test_the_stage_tells_counts_items_and_scores_on_clean_items(tmp_path: Path) -> None:
    task, questions = quiz(tmp_path)
    (tmp_path / "train.txt").write_text("\n\n".join([english(99, 300), *questions[:3]]), encoding="utf-8")
    rows = tmp_path / "evaluation" / "tasks" / "my_quiz.jsonl"
    rows.parent.mkdir(parents=True)
    scores = [{"id": f"q{n}", "scores": {"acc": float(n < 4)}} for n in range(10)]
    rows.write_text("".join(json.dumps(row) + "\n" for row in scores), encoding="utf-8")
    stage = ContaminationStage.parse(
        {
            "train": str(tmp_path / "train.txt"),
            "tasks": [str(task)],
            "data": {"my_quiz": str(tmp_path / "quiz.jsonl")},
            "evaluation": str(tmp_path / "evaluation"),
        }
    )
    done = produce("contamination", stage, tmp_path / "out")
    report = json.loads((done.path / "contamination.json").read_text(encoding="utf-8"))["tasks"]["my_quiz"]
    assert (report["n"], report["dirty"], report["clean"]) == (10, 3, 7)
    assert report["scores"]["dirty"]["mean"] == 1
    assert report["scores"]["clean"]["mean"] == pytest.approx(1 / 7)
    items = [json.loads(line) for line in (done.path / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [item["id"] for item in items] == ["q0", "q1", "q2"]
    assert done.manifest["metrics"]["my_quiz.dirty"] == pytest.approx(0.3)


# Membership


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 10, 40).astype(float), draw.integers(0, 8, 30).astype(float)
    pairs = np.mean([(x > y) + 0.5 * (x == y) for x in a for y in b])
    assert auc(a, b) == pytest.approx(pairs)


def test_equal_sets_are_not_told_apart_and_shifted_ones_are() -> None:
    draw = np.random.default_rng(1)
    same = separate(draw.normal(size=80).tolist(), draw.normal(size=80).tolist(), seed=0)
    assert same.low < 0.5 < same.high
    assert same.p_value > 0.05
    shifted = separate((draw.normal(size=80) + 2).tolist(), draw.normal(size=80).tolist(), seed=0)
    assert shifted.auc > 0.85
    assert shifted.p_value < 0.01
    assert shifted.tpr_at_1 > same.tpr_at_1


def test_scores_of_a_text_equal_a_plain_computation() -> None:
    model = small_model()
    assert model.tokenizer is not None
    text = "hello 你好 world"
    ids = [*model.tokenizer.encode_prompt(""), *model.tokenizer.encode(text)]
    with torch.inference_mode():
        logs = model(torch.tensor([ids]))[0].double().log_softmax(-1)
    wanted = [logs[place - 1, token].item() for place, token in enumerate(ids) if place]
    spread = [((logs[p].exp() * (logs[p] - (logs[p].exp() * logs[p]).sum()) ** 2).sum()).sqrt().item()
              for p in range(len(ids) - 1)]  # fmt: skip
    mean = [(logs[p].exp() * logs[p]).sum().item() for p in range(len(ids) - 1)]
    found, standard = token_scores(model, text)
    assert found.tolist() == pytest.approx(wanted, abs=1e-4)
    by_hand = [(w - m) / s for w, m, s in zip(wanted, mean, spread, strict=True)]
    assert standard.tolist() == pytest.approx(by_hand, abs=1e-3)
    lowest = sorted(wanted)[: max(1, int(len(wanted) * 0.2))]
    assert score(model, text)["min_k"] == pytest.approx(sum(lowest) / len(lowest), abs=1e-4)
    assert score(model, text)["loss"] == pytest.approx(sum(wanted) / len(wanted), abs=1e-4)


def overfitted(texts: list[str], steps: int) -> Decoder:
    """A small model trained on the texts."""
    torch.manual_seed(0)
    model = small_model(opinionated=False)
    assert model.tokenizer is not None
    rows = [[*model.tokenizer.encode_prompt(""), *model.tokenizer.encode(text)] for text in texts]
    width = min(map(len, rows))
    ids = torch.tensor([row[:width] for row in rows])
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        logits = model(ids[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def test_an_untrained_model_knows_no_text_and_an_overfitted_one_knows_its_own(tmp_path: Path) -> None:
    members, twins = [english(n, 8) for n in range(16)], [english(500 + n, 8) for n in range(16)]
    before = compare(overfitted(members, 0), members, twins)
    assert all(0.25 < before[method].auc < 0.75 for method in METHODS)
    model = overfitted(members, 80)
    after = compare(model, members, twins)
    assert all(after[method].auc > 0.9 and after[method].p_value < 0.01 for method in METHODS)
    save(model, tmp_path / "model")
    for name, texts in (("members", members), ("twins", twins)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    paths = {name: str(tmp_path / f"{name}.jsonl") for name in ("members", "twins")}
    stage = MembershipStage.parse({"model": str(tmp_path / "model"), **paths})
    done = produce("membership", stage, tmp_path / "out")
    assert done.manifest["metrics"]["auc.min_k_plus"] == pytest.approx(after["min_k_plus"].auc, abs=0.02)


def test_one_empty_set_is_refused() -> None:
    with pytest.raises(LuhuoError, match=r"Both sets|两组"):
        compare(small_model(), ["a"], [])
    with pytest.raises(LuhuoError, match=r"empty|空"):
        token_scores(small_model(), "")
