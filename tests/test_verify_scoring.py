"""Scoring: right replies pass, near misses do not, replies without an answer are counted apart."""

from __future__ import annotations

import pytest

from luhuo.core.errors import LuhuoError
from luhuo.verify.extraction import choice_letter, normalise
from luhuo.verify.numerals import chinese_number, numbers
from luhuo.verify.scoring import Score, is_correct, score


def item(kind: str, **check: object) -> dict[str, object]:
    return {"id": "t1", "check": {"kind": kind, **check}}


@pytest.mark.parametrize(
    "reply",
    [
        "Miru",
        " miru. ",
        "the Miru!",
        "ＭＩＲＵ",
        "Let me think.\nAnswer: Miru.",
        "She moved.\nThe answer is Miru",
        "“Miru”",
    ],
)
def test_an_exact_answer_may_differ_in_case_width_articles_and_outer_punctuation(reply: str) -> None:
    assert is_correct(item("exact", answers=["Miru"]), reply)


@pytest.mark.parametrize("reply", ["米鲁", "米鲁。", "答案：米鲁。", "我想了想。\n答案是米鲁", "《米鲁》", "米 鲁"])
def test_a_chinese_exact_answer_may_differ_in_punctuation_and_announcement(reply: str) -> None:
    assert is_correct(item("exact", answers=["米鲁"]), reply)


@pytest.mark.parametrize(
    "reply",
    ["Miru or Tolan", "Miru, Tolan, Besk", "Answer: Miru or Tolan", "Mirus", "Not Miru", "米鲁", "Answer:", ""],
)
def test_a_reply_that_lists_candidates_or_says_another_thing_is_wrong(reply: str) -> None:
    assert not is_correct(item("exact", answers=["Miru"]), reply)


def test_every_accepted_answer_counts() -> None:
    check = item("exact", answers=["a baker", "面包师"])
    assert is_correct(check, "Baker.")
    assert is_correct(check, "面包师")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("三十五", 35), ("两百", 200), ("一千零五", 1005), ("一千五", 1500), ("一万二", 12000), ("一万二千", 12000),
        ("十", 10), ("十七", 17), ("二〇二四", 2024), ("三点五", 3.5), ("负七", -7), ("两亿三千万", 230_000_000),
        ("零", 0), ("三万亿", 3e12),
    ],
)  # fmt: skip
def test_chinese_numerals_have_their_value(text: str, value: float) -> None:
    assert chinese_number(text) == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12 - 7 = 5", [12, 7, 5]),
        ("It costs 1,234.50 coins", [1234.5]),
        ("共1,234元", [1234]),
        ("-3 and −4", [-3, -4]),
        ("2024-05-03", [2024, 5, 3]),
        ("3.5万人", [35000]),
        ("他们一起走，一共三十五个", [35]),
        ("一点五加一万一", [1.5, 11000]),
        ("１２", [12]),
        ("none", []),
    ],
)
def test_numbers_are_found_in_running_text(text: str, expected: list[float]) -> None:
    assert list(numbers(text)) == expected


@pytest.mark.parametrize("reply", ["35", "5 * 7 = 35.", "三十五", "The answer is 35.", "答案：三十五个"])
def test_the_number_a_reply_ends_on_is_its_answer(reply: str) -> None:
    assert is_correct(item("number", value=35), reply)


def test_a_reply_without_a_number_is_unparsed_and_a_wrong_number_is_not() -> None:
    check = item("number", value=35)
    assert score(check, "I do not know.") == Score(correct=False, parsed=False)
    assert score(check, "35 or 36") == Score(correct=False, parsed=True)


def test_a_set_is_right_in_any_order_and_wrong_with_one_more_or_less() -> None:
    check = item("set", values=["pear", "lamp"])
    assert is_correct(check, "A lamp and a pear.")
    assert is_correct(check, "- pear\n- lamp")
    assert is_correct(check, "1. lamp\n2. pear")
    assert not is_correct(check, "pear, lamp, rope")
    assert not is_correct(check, "pear")
    assert is_correct(item("set", values=["梨", "灯"]), "灯、梨。")
    assert is_correct(item("set", values=["梨", "灯"]), "答案：梨和灯")


def test_a_sequence_keeps_its_order() -> None:
    check = item("sequence", values=["3", "5", "8"])
    for reply in ("3, 5, 8", "3 5 8", "3 -> 5 -> 8", "3、5、8", "Answer: 3, 5, 8."):
        assert is_correct(check, reply), reply
    for reply in ("3, 8, 5", "3, 5", "3, 5, 8, 8"):
        assert not is_correct(check, reply), reply


def test_json_is_compared_by_value_and_must_be_the_whole_reply() -> None:
    check = item("json", value={"name": "米鲁", "age": 7, "here": True})
    assert is_correct(check, '{"age": 7.0, "name": "米鲁", "here": true}')
    assert is_correct(check, '```json\n{"age": 7, "name": "米鲁", "here": true}\n```')
    assert score(check, '{"age": 7, "name": "米鲁", "here": 1}') == Score(correct=False, parsed=True)
    assert score(check, 'Sure: {"age": 7}') == Score(correct=False, parsed=False)
    assert score(check, "[" * 100_000) == Score(correct=False, parsed=False)


@pytest.mark.parametrize(
    "reply", ["B", "b", "(B)", "B. lamp", "lamp", "The answer is B.", "答案：B", "我选B", "I choose B", "Answer: lamp"]
)
def test_a_choice_may_be_named_by_letter_or_by_text(reply: str) -> None:
    assert is_correct(item("choice", value="B", options=["pear", "lamp", "rope"]), reply)


@pytest.mark.parametrize("reply", ["A, B", "A or B", "hm", "D", "A lamp is bright", "I choose A. No, I choose B."])
def test_a_choice_is_never_guessed(reply: str) -> None:
    assert choice_letter(reply, ["pear", "stone", "rope"]) is None


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ({"kind": "lines", "count": 3}, "a\n\nb\nc", "a\nb"),
        ({"kind": "uppercase"}, "WE GO.", "We GO."),
        ({"kind": "repeat", "text": "ha", "count": 3}, "ha ha, ha!", "ha ha"),
        ({"kind": "repeat", "text": "你好", "count": 2}, "你好，你好。", "你好你好你好"),
        ({"kind": "max_words", "count": 5}, "我爱你们", "one two three four five six"),
        ({"kind": "starts_with", "text": "Yes"}, "Yes, it is.", "No. Yes."),
        ({"kind": "contains", "text": "灯"}, "那盏灯", "那把梨"),
    ],
)
def test_each_rule_passes_what_keeps_it_and_fails_what_does_not(rule: dict[str, object], good: str, bad: str) -> None:
    check = item("rules", rules=[rule])
    assert is_correct(check, good)
    assert not is_correct(check, bad)
    assert not is_correct(check, "")


def test_rules_must_all_hold() -> None:
    check = item("rules", rules=[{"kind": "uppercase"}, {"kind": "max_words", "count": 2}])
    assert is_correct(check, "GO ON")
    assert not is_correct(check, "GO ON NOW")


def test_an_unknown_kind_names_the_nearest_one_and_a_missing_key_is_named() -> None:
    with pytest.raises(LuhuoError, match="nmber") as caught:
        is_correct(item("nmber", value=1), "1")
    assert "number" in str(caught.value)
    with pytest.raises(LuhuoError) as caught:
        is_correct(item("number"), "1")
    assert caught.value.expected == "value"


def test_normal_form_is_stable() -> None:
    for text in ("The “Red Lamp”!", "（３个）", "...", " -5 "):
        assert normalise(normalise(text)) == normalise(text)
