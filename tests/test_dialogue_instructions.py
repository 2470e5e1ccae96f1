"""Labelled rows become instructions in several wordings of both languages; what cannot is told with its reason."""

# ruff: noqa: E501 (a row of examples stays on one line)
from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.dialogue.instructions import wordings
from luhuo.dialogue.instructions.stages import InstructionsStage
from luhuo.dialogue.layouts import read_conversations

ROWS: dict[str, list[dict[str, Any]]] = {
    "classification": [{"text": f"The film number {n} was a joy.", "label": "good" if n % 2 else "bad"} for n in range(40)]
    + [{"text": f"第{n}部电影很好看。", "label": "good" if n % 2 else "bad"} for n in range(40)],
    "choice": [{"question": f"What is {n} + 1?", "choices": [str(n), str(n + 1), "none"], "answer": "B"} for n in range(40)],
    "qa": [{"question": f"Who built bridge {n}?", "answer": f"Ana {n}", "context": f"Ana {n} built it."} for n in range(40)],
    "pair": [{"first": f"It rained {n} days.", "second": "It was wet.", "label": "follows"} for n in range(20)]
    + [{"first": "It was dry.", "second": f"It rained {n} days.", "label": "contradicts"} for n in range(20)],
    "summary": [{"text": f"A long text about event {n}.", "summary": f"Event {n}"} for n in range(40)],
    "translation": [{"english": f"There are {n} birds.", "chinese": f"有{n}只鸟。"} for n in range(40)],
}  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(tmp_path: Path, rows: list[dict[str, Any]], name: str = "out", **values: Any) -> Path:
    data = write(tmp_path / f"{name}.jsonl", rows)
    return produce("instructions", InstructionsStage.parse({"data": [data], **values}), tmp_path / name).path


def test_every_built_in_set_has_its_rows() -> None:
    assert wordings.built_in() == sorted(ROWS)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_wording_of_every_set_is_used_and_can_be_read_as_conversations(
    name: str, lang: str, tmp_path: Path
) -> None:
    out = run(tmp_path, ROWS[name], templates=name, lang=lang, wordings=9, inverted=1.0)
    made = read(out / "instructions.jsonl")
    whole = wordings.load(name)
    assert {row["template"] for row in made} == {wording.name for wording in whole.by_lang[lang]}
    assert len(whole.of(lang, inverted=False)) >= 3
    assert whole.of(lang, inverted=True)
    layout, conversations = read_conversations(out / "instructions.jsonl")
    assert layout == "openai"
    assert len(list(conversations)) == len(made)
    texts = [turn["content"] for row in made for turn in row["messages"]]
    assert all(text.strip() and "{{" not in text for text in texts)
    assert not (out / "dropped.jsonl").read_text()


def test_the_language_is_that_of_the_row(tmp_path: Path) -> None:
    made = read(run(tmp_path, ROWS["classification"], templates="classification") / "instructions.jsonl")
    assert Counter(row["template"].split("/")[1] for row in made)["zh"] >= 40
    for row in made:
        han = any(c >= "\u4e00" for c in row["messages"][0]["content"])
        assert han == ("/zh/" in row["template"])


def test_an_inverted_task_asks_for_what_was_given(tmp_path: Path) -> None:
    made = read(run(tmp_path, ROWS["qa"], templates="qa", inverted=1.0) / "instructions.jsonl")
    turned = [row for row in made if row["template"].endswith(("/5", "/6"))]
    assert len(turned) == 40
    assert all(row["messages"][1]["content"].startswith("Who built bridge") for row in turned)
    straight = read(run(tmp_path, ROWS["qa"], "plain", templates="qa", inverted=0.0) / "instructions.jsonl")
    assert all(row["messages"][1]["content"].startswith("Ana") for row in straight)


def test_a_right_choice_may_be_a_letter_a_number_or_its_text(tmp_path: Path) -> None:
    rows = [{"question": f"Q{n}?", "choices": ["red", "blue", "tall"], "answer": answer}
            for n, answer in enumerate(["B", "1", 1, "blue", "b"])]  # fmt: skip
    made = read(run(tmp_path, rows, templates="choice", wordings=9, inverted=0) / "instructions.jsonl")
    assert {row["messages"][1]["content"] for row in made} == {"B. blue", "B", "blue"}


def test_labels_have_words_and_options_come_in_different_orders(tmp_path: Path) -> None:
    rows = [{"sentence": {"text": f"Line {n}"}, "y": n % 3} for n in range(60)]
    out = run(
        tmp_path, rows, templates="classification", fields={"text": "sentence.text", "label": "y"},
        labels={"0": "sad", "1": "glad", "2": "neutral"}, lang="en", inverted=0,
    )  # fmt: skip
    made = read(out / "instructions.jsonl")
    assert {word for row in made for word in ("sad", "glad", "neutral") if word in row["messages"][1]["content"]} == {
        "sad", "glad", "neutral",
    }  # fmt: skip
    listed = {
        row["messages"][0]["content"].split("as one of: ")[1].split(".")[0] for row in made if "/2" in row["template"]
    }
    assert len(listed) > 2


def test_rows_that_cannot_be_used_are_told_with_their_reason(tmp_path: Path) -> None:
    good = {"question": "Q?", "choices": ["x", "y"], "answer": "A"}
    rows = [
        good,
        {"question": "Q?"},
        {**good, "answer": "Z"},
        {**good, "choices": ["only"]},
        {**good, "question": " "},
    ]
    out = run(tmp_path, rows, templates="choice")
    reasons = [row["reason"] for row in read(out / "dropped.jsonl")]
    assert reasons == ["missing_choices", "unknown_answer", "no_choices", "missing_question"]
    assert json.loads((out / "report.json").read_text())["rows"]["used"] == 1


def test_what_a_row_becomes_depends_on_the_seed_and_the_row_alone(tmp_path: Path) -> None:
    rows = ROWS["summary"]
    by_text = [
        {row["messages"][0]["content"] for row in read(run(tmp_path, order, name, templates="summary", seed=seed) / "instructions.jsonl")}
        for name, order, seed in (("a", rows, 0), ("b", rows[::-1], 0), ("c", rows, 1))
    ]  # fmt: skip
    assert by_text[0] == by_text[1] != by_text[2]


def test_a_set_of_ones_own_is_checked_and_kept_in_its_sandbox(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text('fields: [text]\nen:\n  - {ask: "Say: {{text}}", answer: "{{text | upper}}"}\n')
    made = read(run(tmp_path, [{"text": "hi"}], templates=str(own), inverted=0) / "instructions.jsonl")
    assert [turn["content"] for turn in made[0]["messages"]] == ["Say: hi", "HI"]
    for bad in (
        "fields: [text]\n", "fields: [text]\nen:\n  - {ask: x}\n", "fields: [text]\nen:\n  - {ask: a, answer: b, inverse: 1}\n", "[", "",
        'fields: [text]\nen:\n  - {ask: "{{ \'\'.__class__ }}", answer: b}\n', 'fields: [text]\nen:\n  - {ask: "{{text", answer: b}\n',
    ):  # fmt: skip
        own.write_text(bad)
        with pytest.raises(LuhuoError):
            run(tmp_path, [{"text": "hi"}], "bad", templates=str(own))
    with pytest.raises(LuhuoError, match="classification"):
        run(tmp_path, [{"text": "hi"}], templates="clasification")


def test_data_without_the_fields_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="fields"):
        run(tmp_path, [{"foo": "bar"}], templates="qa")
