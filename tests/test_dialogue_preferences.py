"""Preference data: every published layout gives the same pair; what is no pair is reported; the chat page fits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luhuo.core.errors import LuhuoError
from luhuo.dialogue.preferences import read_preferences, read_stepwise, read_unpaired
from luhuo.dialogue.prompts import read_prompts
from luhuo.files.records import Broken
from luhuo.serve.feedback import PAIRED, UNPAIRED, Feedback, FeedbackBody

ASK = [{"role": "user", "content": "问"}]
GOOD, BAD = {"role": "assistant", "content": "好"}, {"role": "assistant", "content": "坏"}
FROM = {"user": "human", "assistant": "gpt"}


def sharegpt(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"from": FROM[turn["role"]], "value": turn["content"]} for turn in turns]


PAIRS: dict[str, dict[str, Any]] = {
    "preference": {"prompt": "问", "chosen": "好", "rejected": "坏"},
    "preference-messages": {"prompt": ASK, "chosen": [GOOD], "rejected": [BAD]},
    "preference-implicit": {"chosen": [*ASK, GOOD], "rejected": [*ASK, BAD]},
    "openai-preference": {"input": {"messages": ASK}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
    "sharegpt-preference": {
        "conversations": sharegpt(ASK),
        "chosen": sharegpt([GOOD])[0],
        "rejected": sharegpt([BAD])[0],
    },
    "messages-preference": {"messages": ASK, "chosen": GOOD, "rejected": BAD},
    "swift-preference": {"messages": [*ASK, GOOD], "rejected_response": "坏"},
    "alpaca-preference": {"instruction": "问", "input": "", "chosen": "好", "rejected": "坏"},
}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("preference-messages", {"prompt": "问", "chosen": [*ASK, GOOD], "rejected": [*ASK, BAD]}),
    ("preference-messages", {"prompt": ASK, "chosen": "好", "rejected": "坏"}),
    ("preference", {"prompt": json.dumps(ASK), "chosen": json.dumps([GOOD]), "rejected": json.dumps([BAD])}),
    (
        "preference-implicit",
        {"chosen": "\n\nHuman: 问\n\nAssistant: 好", "rejected": "\n\nHuman: 问\n\nAssistant: 坏"},
    ),
    ("preference", {"prompt": "\n\nHuman: 问\n\nAssistant:", "chosen": " 好", "rejected": " 坏"}),
]


def write(path: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def one(found: tuple[str, Iterator[Any]]) -> tuple[str, Any]:
    name, values = found
    (value,) = values
    return name, value


@pytest.mark.parametrize("layout", PAIRS)
def test_each_layout_is_named_and_gives_the_same_pair(layout: str, tmp_path: Path):
    name, pair = one(read_preferences(write(tmp_path / "x.jsonl", PAIRS[layout])))
    assert name == layout
    assert pair.prompt.plain() == ASK
    assert [c.plain() for c in pair.conversations()] == [[*ASK, GOOD], [*ASK, BAD]]


@pytest.mark.parametrize(("layout", "row"), VARIANTS[:2] + VARIANTS[3:4])
def test_prompts_repeated_in_answers_and_text_of_dialogues_are_understood(layout: str, row: Any, tmp_path: Path):
    name, pair = one(read_preferences(write(tmp_path / "x.jsonl", row)))
    assert name == layout and [c.plain() for c in pair.conversations()] == [[*ASK, GOOD], [*ASK, BAD]]


def test_messages_written_as_json_text_are_read_as_messages(tmp_path: Path):
    _, pair = one(read_preferences(write(tmp_path / "x.jsonl", VARIANTS[2][1])))
    assert [c.plain() for c in pair.conversations()] == [[*ASK, GOOD], [*ASK, BAD]]


@pytest.mark.parametrize("answer", ['{"name": "欧博磊", "age": 45}', '["a", "b"]', "[1, 2]", "[]", "{"])
def test_an_answer_that_is_json_stays_text(answer: str, tmp_path: Path):
    row = {"prompt": ASK, "chosen": answer, "rejected": "坏"}
    _, pair = one(read_preferences(write(tmp_path / "x.jsonl", row)))
    assert pair.chosen[0].content == answer


def test_a_text_prompt_with_speakers_becomes_turns(tmp_path: Path):
    row = {"prompt": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:", "chosen": " x", "rejected": " y"}
    _, pair = one(read_preferences(write(tmp_path / "x.jsonl", row)))
    assert [m.content for m in pair.prompt.messages] == ["a", "b", "c"]


def test_only_the_answers_are_targets(tmp_path: Path):
    row = {"chosen": [*ASK, GOOD, *ASK, GOOD], "rejected": [*ASK, GOOD, *ASK, BAD]}
    _, pair = one(read_preferences(write(tmp_path / "x.jsonl", row)))
    assert not pair.prompt.has_target and len(pair.prompt.messages) == 3
    assert [m.is_target for m in pair.conversations()[1].messages] == [False, False, False, True]


def test_margins_come_from_their_column_or_from_two_scores(tmp_path: Path):
    base = PAIRS["preference"]
    extras = [{"margin": 0.0, "score_chosen": 5}, {"score_chosen": 8.5, "score_rejected": 3}, {}]
    path = write(tmp_path / "x.jsonl", *({**base, **extra} for extra in extras))
    assert [pair.margin for pair in read_preferences(path)[1]] == [0.0, 5.5, None]


def test_other_columns_are_kept_as_meta(tmp_path: Path):
    row = {**PAIRS["preference"], "defect": "truncation", "lang": "zh"}
    _, pair = one(read_preferences(write(tmp_path / "x.jsonl", row)))
    assert pair.meta == {"defect": "truncation", "lang": "zh"} and pair.prompt.meta == {"lang": "zh"}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "equal"),
        ({"prompt": "q", "chosen": " ", "rejected": "a"}, "empty"),
        ({"prompt": [*ASK, GOOD], "chosen": "a", "rejected": "b"}, "where an answer is to come"),
        ({"prompt": "q", "chosen": [], "rejected": "b"}, "no answer"),
        ({"prompt": "q", "chosen": [*ASK, GOOD], "rejected": [*ASK, BAD]}, "another prompt"),
        ({"prompt": "q", "chosen": 3, "rejected": 4}, "list of objects"),
        ({"prompt": "q"}, "other_layout"),
    ],
)
def test_what_is_no_pair_is_reported_with_its_line(row: Any, told: str, tmp_path: Path):
    found: list[Broken] = []
    path = write(tmp_path / "x.jsonl", PAIRS["preference"], row)
    assert len(list(read_preferences(path, found.append)[1])) == 1
    assert [b.line for b in found] == [2] and told in found[0].reason


def test_a_file_of_labelled_answers_is_no_file_of_pairs_and_says_what_it_is_for(tmp_path: Path):
    path = write(tmp_path / "x.jsonl", {"prompt": "q", "completion": "a", "label": True})
    with pytest.raises(LuhuoError, match="KTO"):
        read_preferences(path)


@pytest.mark.parametrize(
    ("layout", "row"),
    [
        ("unpaired-preference", {"prompt": ASK, "completion": [GOOD], "label": True}),
        ("messages-unpaired", {"messages": [*ASK, GOOD], "label": 1}),
        ("sharegpt-unpaired", {"conversations": sharegpt([*ASK, GOOD]), "kto_tag": "true"}),
        ("alpaca-unpaired", {"instruction": "问", "output": "好", "kto_tag": True}),
    ],
)
def test_judged_answers_of_each_layout(layout: str, row: Any, tmp_path: Path):
    name, judged = one(read_unpaired(write(tmp_path / "x.jsonl", row)))
    assert name == layout and judged.label is True and judged.conversation().plain() == [*ASK, GOOD]


def test_a_pair_is_two_judged_answers(tmp_path: Path):
    name, judged = read_unpaired(write(tmp_path / "x.jsonl", PAIRS["preference"]))
    assert name == "preference" and [(u.completion[0].content, u.label) for u in judged] == [
        ("好", True),
        ("坏", False),
    ]


def test_a_label_that_says_neither_is_reported(tmp_path: Path):
    found: list[Broken] = []
    row = {"prompt": "q", "completion": "a", "label": "maybe"}
    assert not list(read_unpaired(write(tmp_path / "x.jsonl", row), found.append)[1])
    assert "neither good nor bad" in found[0].reason


def test_labelled_steps(tmp_path: Path):
    row = {"prompt": "1+1+1?", "completions": ["1+1=2", "2+1=4"], "labels": [True, False]}
    name, found = one(read_stepwise(write(tmp_path / "x.jsonl", row)))
    assert name == "stepwise" and found.steps == ("1+1=2", "2+1=4") and found.labels == (True, False)


@pytest.mark.parametrize(
    ("layout", "row"),
    [
        ("prompt-only", {"prompt": "问", "answer": "4"}),
        ("prompt-only-messages", {"prompt": ASK, "answer": "4"}),
        ("messages", {"messages": ASK, "answer": "4"}),
        ("messages", {"messages": [*ASK, GOOD], "answer": "4"}),
        ("sharegpt", {"conversations": sharegpt([*ASK, GOOD]), "answer": "4"}),
        ("alpaca", {"instruction": "问", "output": "好", "answer": "4"}),
        ("preference", {**PAIRS["preference"], "answer": "4"}),
    ],
)
def test_prompts_of_any_data_with_what_is_known_about_the_answer(layout: str, row: Any, tmp_path: Path):
    name, found = one(read_prompts(write(tmp_path / "x.jsonl", row)))
    assert name == layout and found.prompt.plain() == ASK and found.item["answer"] == "4"


def test_the_chat_page_s_feedback_is_read_as_it_is(tmp_path: Path):
    feedback = Feedback(tmp_path)
    system = {"role": "developer", "content": "Be brief."}
    common = {"prompt": [system, *ASK], "model": "m", "comment": "没错"}
    feedback.add(FeedbackBody.model_validate({**common, "completion": [GOOD], "label": False}))
    feedback.add(FeedbackBody.model_validate({**common, "chosen": [GOOD], "rejected": [BAD]}))
    _, judged = one(read_unpaired(tmp_path / UNPAIRED))
    _, pair = one(read_preferences(tmp_path / PAIRED))
    assert judged.label is False and judged.meta == {"model": "m", "comment": "没错"}
    assert [m.role for m in pair.prompt.messages] == ["system", "user"] and pair.chosen[0].content == "好"


def test_a_csv_file_of_pairs(tmp_path: Path):
    path = tmp_path / "x.csv"
    path.write_text("prompt,chosen,rejected\n问,好,坏\n", encoding="utf-8")
    assert one(read_preferences(path))[1].chosen[0].content == "好"
