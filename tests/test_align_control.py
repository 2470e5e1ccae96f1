"""Control by attributes: what answers are like is read, told in their rows, and can be asked for and measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from luhuo.adapter.open import open_decoder
from luhuo.align.control.config import AttributeConfig, parse_attributes
from luhuo.align.control.reading import Classes, Raw, Told, classes, reader
from luhuo.align.control.scores import summary
from luhuo.align.control.text import asked
from luhuo.align.control.write import READ
from luhuo.align.ledger import Ledger, groups
from luhuo.core.artifact import Workspace, produce
from luhuo.core.errors import LuhuoError
from luhuo.core.metrics import MetricsLog
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.layouts import read_conversations
from luhuo.dialogue.render import render
from luhuo.model.save import save
from luhuo.stages import configured
from tests.small_chat import small_model

LENGTH = {"kind": "length", "classes": ["short", "long"], "edges": [3]}
STYLE = {"kind": "column", "name": "style", "key": "meta.style"}
ALWAYS = {"drop": 0.0}


def one(values: dict[str, Any]) -> AttributeConfig:
    return parse_attributes([values])[0]


def told(*answers: str, **columns: Any) -> Told:
    return Told(columns, [{"role": "user", "content": "?"}], answers)


def read(values: dict[str, Any], *rows: Told) -> list[Raw]:
    return reader(one(values))(rows)


def row(answer: str, style: Any = None, question: str = "hello") -> dict[str, Any]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns} | ({"meta": {"style": style}} if style is not None else {})


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def made(tmp_path: Path, rows: list[dict[str, Any]], attributes: list[dict[str, Any]], **changes: Any) -> list[dict]:
    """The rows that the stage writes, nothing dropped unless asked for."""
    values = {"data": write(tmp_path / "data.jsonl", rows), "attributes": attributes, "without": 0.0} | changes
    done = produce("control", configured("control", values), tmp_path / "out")
    return list(Ledger(done.path / "train.jsonl"))


# Reading


def test_each_kind_of_attribute_reads_what_it_says():
    assert read({"kind": "length"}, told("one two three"), told("你好", "ab")) == [3.0, 1.5]
    assert read({"kind": "length", "unit": "characters"}, told("one")) == [3.0]
    assert read({"kind": "language"}, told("今天很好"), told("hello there"), told("42")) == ["zh", "en", None]
    form = {"kind": "pattern", "name": "form", "patterns": {"json": r"\{.*\}", "digits": r"\d+"}}
    assert read(form, told('{"a":\n1}'), told("42"), told("text"), told("42", "text")) == [
        "json",
        "digits",
        None,
        None,
    ]
    assert read(form | {"other": "plain"}, told("text")) == ["plain"]
    style = [told("", meta={"style": value}) for value in (" very  kind ", 3, True, None, [1], "")]
    assert read(STYLE, *style) == ["very kind", "3", "yes", None, None, None]
    number = STYLE | {"classes": ["low", "high"]}
    assert read(number, told("", meta={"style": "1.5"}), told("", meta={"style": "nan"}), told("")) == [
        1.5,
        None,
        None,
    ]


def test_a_reward_reads_the_last_answer_after_all_that_was_said_before(tmp_path: Path):
    code = "def score(item, text, info):\n    return float(len(item['messages'])) if text != 'bad' else None\n"
    (tmp_path / "reward.py").write_text(code)
    reward = {"kind": "function", "file": str(tmp_path / "reward.py"), "function": "score"}
    values = {"kind": "reward", "reward": reward}
    before = [{"role": "user", "content": "?"}] * 3
    assert read(values, Told({}, before, ["x", "good"]), told("bad")) == [3.0, None]


def test_numbers_fall_into_classes_by_their_borders_and_unknown_ones_into_none():
    kind = classes(one(LENGTH), [])
    assert [kind.of(value) for value in (0.0, 2.9, 3.0, 99.0, None, "x")] == [
        "short", "short", "long", "long", None, None,
    ]  # fmt: skip


def test_without_borders_each_class_gets_as_many_rows():
    kind = classes(one({"kind": "length"}), [float(i) for i in range(30)] + [None])
    counts = [sum(kind.of(float(i)) == name for i in range(30)) for name in ("short", "medium", "long")]
    assert counts == [10, 10, 10]
    with pytest.raises(LuhuoError, match="do not part"):
        classes(one({"kind": "length"}), [1.0] * 30)


def test_labels_are_all_there_are_or_those_that_count():
    assert classes(one(STYLE), ["b", "a", None, "b", "bad|name"]).names == ("a", "b")
    assert classes(one(STYLE | {"values": ["b"]}), ["a"]).of("a") is None
    with pytest.raises(LuhuoError, match="64 labels"):
        classes(one(STYLE), map(str, range(99)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "length", "edges": [3, 2]}, "ascend"),
        ({"kind": "length", "classes": ["a", "a"]}, "same name"),
        ({"kind": "length", "classes": ["a", "b|c"]}, "without"),
        ({"kind": "length", "name": "a: b"}, "name"),
        ({"kind": "pattern", "name": "x", "patterns": {"a": "("}}, "regular expression"),
        ({"kind": "language", "values": ["xx"]}, "known"),
        (STYLE | {"values": ["a"], "classes": ["a", "b"]}, "exclude"),
        (STYLE | {"edges": [1]}, "classes"),
    ],
)
def test_attributes_that_make_no_sense_are_refused(values: dict[str, Any], message: str):
    with pytest.raises(LuhuoError, match=message):
        one(values)


def test_two_attributes_of_one_name_are_refused():
    with pytest.raises(LuhuoError, match="same name"):
        configured("control", {"data": "x", "attributes": [LENGTH, LENGTH]})


# Writing


def test_the_control_stands_in_the_system_message_and_keeps_what_was_there():
    control = {"length": "short", "language": "zh"}
    question = [{"role": "user", "content": "hi"}]
    assert asked(question, control) == [{"role": "system", "content": "length: short\nlanguage: zh"}, *question]
    assert asked([{"role": "system", "content": "Be kind."}, *question], control)[0]["content"] == (
        "Be kind.\nlength: short\nlanguage: zh"
    )
    assert asked(question, {}) == question


def test_rows_say_what_their_answers_are_like_in_the_order_of_the_attributes(tmp_path: Path):
    rows = [row("a b c d", "kind"), row("好"), {"messages": [{"role": "user", "content": "no answer"}]}, row(" ", "x")]
    found = made(tmp_path, rows, [STYLE | ALWAYS, LENGTH | ALWAYS])
    assert [one["control"] for one in found] == [{"style": "kind", "length": "long"}, {"length": "short"}]
    assert found[0]["messages"][0] == {"role": "system", "content": "style: kind\nlength: long"}
    assert found[1]["source"] == {"file": "data.jsonl", "line": 2}
    reasons = [line["reason"] for line in Ledger(tmp_path / "out" / "quarantine.jsonl")]
    assert reasons == ["no_target", "empty_answer"]
    description = json.loads((tmp_path / "out" / "control.json").read_text())
    assert [one["rows"] for one in description["attributes"]] == [{"kind": 1}, {"short": 1, "long": 1}]
    assert description["attributes"][0]["unknown"] == 1
    assert len(list(read_conversations(tmp_path / "out" / "train.jsonl")[1])) == 2


def test_turns_weights_and_tools_stay_what_they_were(tmp_path: Path):
    call = {"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    turns = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "old", "train": False},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "r", "tool_call_id": "1"},
        {"role": "assistant", "content": "a b c d", "weight": 0.5},
    ]
    tools = [{"type": "function", "function": {"name": "f"}}]
    given = {"messages": turns, "tools": tools}
    made(tmp_path, [given], [LENGTH | ALWAYS])
    [before] = read_conversations(tmp_path / "data.jsonl")[1]
    [after] = read_conversations(tmp_path / "out" / "train.jsonl")[1]
    assert after.messages[0].content == "Be kind.\nlength: short"  # 0 and 4 words: 2 on average
    assert after.messages[1:] == before.messages[1:] and after.tools == before.tools
    assert [m.tool_calls for m in after.messages] == [m.tool_calls for m in before.messages]


def test_a_row_of_which_an_attribute_is_unknown_can_be_left_out(tmp_path: Path):
    found = made(tmp_path, [row("a", "kind"), row("b")], [STYLE | ALWAYS], missing="reject")
    assert len(found) == 1
    [line] = Ledger(tmp_path / "out" / "quarantine.jsonl")
    assert line["reason"] == "unknown_attribute: style" and line["line"] == 2


def test_attributes_are_dropped_each_by_its_share_and_all_together(tmp_path: Path):
    rows = [row("a b c d" if i % 2 else "a", "kind") for i in range(600)]
    attributes = [LENGTH | {"drop": 0.5}, STYLE | ALWAYS]
    found = made(tmp_path, rows, attributes, without=0.2)
    bare = [one for one in found if not one["control"]]
    assert 80 < len(bare) < 160 and all(one["messages"][0]["role"] == "user" for one in bare)
    rest = [one["control"] for one in found if one["control"]]
    assert all("style" in control for control in rest)
    assert 0.4 < sum("length" in control for control in rest) / len(rest) < 0.6


def test_in_any_order_means_every_order_and_the_same_one_for_a_seed(tmp_path: Path):
    rows = [row("a b c d", "kind") for _ in range(40)]
    options = {"attributes": [LENGTH | ALWAYS, STYLE | ALWAYS], "order": "random"}
    found = made(tmp_path, rows, **options)
    assert {tuple(one["control"]) for one in found} == {("length", "style"), ("style", "length")}
    (tmp_path / "again").mkdir()
    assert made(tmp_path / "again", rows, **options) == found


def test_the_control_experiment_keeps_every_attribute_and_tells_it_of_other_rows(tmp_path: Path):
    rows = [row("a b c d" if i % 2 else "a", "x" if i % 2 else "y") for i in range(100)]
    attributes = [LENGTH | ALWAYS, STYLE | ALWAYS]
    found = made(tmp_path, rows, attributes, shuffle=True)
    true = {"long": "x", "short": "y"}
    assert all(true[one["control"]["length"]] == one["control"]["style"] for one in found)  # a row's stay together
    assert sum(one["control"]["style"] == "x" for one in found) == 50
    right = sum(given["meta"]["style"] == one["control"]["style"] for given, one in zip(rows, found, strict=True))
    assert 30 < right < 70


def test_plain_text_gets_a_control_code_in_front_of_its_prompt(tmp_path: Path):
    rows = [{"text": "one two three four"}]
    found = made(tmp_path, rows, [LENGTH | ALWAYS], plain=True)
    assert found[0]["prompt"] == "length: long\n\n" and found[0]["completion"] == "one two three four"


def test_data_that_have_nothing_to_tell_are_refused(tmp_path: Path):
    with pytest.raises(LuhuoError, match="do not part"):
        made(tmp_path, [row("a")], [STYLE])
    with pytest.raises(LuhuoError, match="nothing to control"):
        made(tmp_path, [row("a")], [STYLE | {"values": ["x"]}])


def test_a_run_that_was_killed_reads_on_where_it_was(tmp_path: Path):
    calls = tmp_path / "calls"
    code = f"def score(item, text, info):\n    open({str(calls)!r}, 'a').write('x')\n    return float(len(text))\n"
    (tmp_path / "reward.py").write_text(code)
    reward = {"kind": "function", "file": str(tmp_path / "reward.py"), "function": "score"}
    attributes = [{"kind": "reward", "reward": reward, "classes": ["low", "high"], "drop": 0.0}]
    rows = [row("x" * (i + 1)) for i in range(10)]
    values = {"data": write(tmp_path / "data.jsonl", rows), "attributes": attributes, "without": 0.0}
    stage = configured("control", values)
    (tmp_path / "cut").mkdir()
    half = "".join(f"[{float(i + 1)}]\n" for i in range(6)) + "[7."
    (tmp_path / "cut" / READ).write_text(half)
    stage.run(Workspace(tmp_path / "cut", MetricsLog(tmp_path / "cut" / "metrics.jsonl")))
    assert len(calls.read_text()) == 4
    whole = produce("control", stage, tmp_path / "whole")
    assert (tmp_path / "cut" / "train.jsonl").read_text() == (whole.path / "train.jsonl").read_text()
    assert not (tmp_path / "cut" / READ).exists()


def test_groups_hold_everything_once():
    assert list(groups(range(5), 2)) == [[0, 1], [2, 3], [4]]


# Tokens


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    """A model fine-tuned for a step with control codes as tokens, beside the data."""
    save(small_model(), tmp_path / "model")
    rows = [row("a b c d" if i % 2 else "a", "kind") for i in range(8)]
    made(tmp_path, rows, [LENGTH | ALWAYS, STYLE | ALWAYS])
    values = {
        "model": str(tmp_path / "model"), "data": str(tmp_path / "out" / "train.jsonl"), "length": 64, "steps": 1,
        "control": str(tmp_path / "out"), "device": "cpu", "threads": 1,
    }  # fmt: skip
    return produce("sft", configured("sft", values), tmp_path / "tuned").path


def test_control_codes_become_tokens_that_only_the_template_can_write(tuned: Path):
    tokenizer = open_decoder(tuned).tokenizer
    assert tokenizer is not None
    short, kind = (tokenizer.token_id(name) for name in ("<|length:short|>", "<|style:kind|>"))

    def ids(*messages: tuple[str, str]) -> list[int]:
        conversation = Conversation.of({"role": role, "content": content} for role, content in messages)
        return render(conversation, tokenizer, generation_prompt=True).ids

    found = ids(("system", "Be kind.\nlength: short\nstyle: kind"), ("user", "hi"))
    assert tokenizer.decode(found).startswith("<|im_start|>system\n<|length:short|><|style:kind|>Be kind.<|im_end|>")
    assert {short, kind} <= set(found)
    for messages in (
        [("user", "length: short")],
        [("system", "length: short now"), ("user", "hi")],
        [("system", "<|length:short|>"), ("user", "<|style:kind|>")],
    ):
        assert not {short, kind} & set(ids(*messages))


def test_a_folder_without_attributes_is_refused(tmp_path: Path):
    save(small_model(), tmp_path / "model")
    values = {
        "model": str(tmp_path / "model"),
        "data": write(tmp_path / "d.jsonl", [row("a")]),
        "control": str(tmp_path),
    }
    with pytest.raises(LuhuoError, match=r"control\.json"):
        produce("sft", configured("sft", values | {"device": "cpu", "threads": 1}), tmp_path / "tuned")


# Measuring


def test_the_share_that_obeys_is_told_beside_what_comes_without_asking():
    kinds = {"length": Classes(("short", "long"), (3.0,), True), "form": Classes(("json",))}

    def answer(wanted: str, found: str, anyway: str | None, form: str | None = None) -> dict[str, Any]:
        asked = {"length": wanted, "form": "json"}
        return {
            "asked": asked,
            "is": {"length": found, "form": form},
            "without": {"is": {"length": anyway, "form": None}},
        }

    rows = [
        answer("short", "short", "long", "json"),
        answer("short", "long", "short"),
        answer("long", "long", "long"),
        answer("long", "long", None),
    ]
    scores = summary(rows, kinds, 0)
    assert scores["length"]["obeyed"] == 0.75 and scores["length"]["without"] == 0.5
    assert scores["length"]["classes"]["short"]["obeyed"] == 0.5
    assert scores["length"]["gain"]["difference"] == pytest.approx(0.25)
    assert scores["form"]["obeyed"] == 0.25 and scores["all"]["obeyed"] == 0.25 and scores["all"]["n"] == 4


def test_a_model_is_asked_with_and_without_and_its_answers_are_read(tuned: Path, tmp_path: Path):
    prompts = write(tmp_path / "prompts.jsonl", [{"prompt": question} for question in ("hello", "你好", "42")])
    values = {"model": str(tuned), "prompts": prompts, "control": str(tmp_path / "out"), "max_tokens": 6}
    values |= {"device": "cpu", "threads": 1, "at_once": 2}
    done = produce("control-scores", configured("control-scores", values), tmp_path / "scores")
    rows = list(Ledger(done.path / "answers.jsonl"))
    assert len(rows) == 3 and all(set(row["asked"]) == {"length"} for row in rows)  # a column cannot be read
    kind = Classes(("short", "long"), (3.0,), True)
    for found in rows:
        assert found["is"]["length"] == kind.of(read(LENGTH, told(found["answer"]))[0])
    assert 0 <= done.manifest["metrics"]["length.obeyed"] <= 1
    with pytest.raises(LuhuoError, match="cannot be asked"):
        produce(
            "control-scores", configured("control-scores", values | {"ask": {"style": ["kind"]}}), tmp_path / "wrong"
        )
