"""Where a reply states its answer, the number of a reply, languages by script, programs and JSON in replies."""

from __future__ import annotations

import pytest

from luhuo.verify.answers import boxed, contains, match_exact, split_reasoning, stated, tagged
from luhuo.verify.code_blocks import code_of
from luhuo.verify.json_schema import values_in
from luhuo.verify.quantities import match_number, value_of
from luhuo.verify.script import language_of, share_in


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>a</think>b", ("a", "b")),
        ("a</think>b", ("a", "b")),
        ("<think>never ended", ("never ended", "")),
        ("before <think>never ended", ("never ended", "before")),
        ("b", ("", "b")),
        ("<think>a</think>b</think>c", ("a</think>b", "c")),
        ("<think>a</think>", ("a", "")),
    ],
)
def test_reasoning_and_what_is_said_after_it(text: str, parts: tuple[str, str]) -> None:
    assert split_reasoning(text) == parts


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer> 5 </answer>", "5"),
        ("<answer>5</answer><answer>6</answer>", None),
        (r"<answer>so \boxed{5}</answer>", "5"),
        (r"\boxed{1} and then \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{unfinished", None),
        ("work\n#### 42\n", "42"),
        ("The final answer is: 42", "42"),
        ("最终答案：四十二。", "四十二。"),
        ("42", None),
        ("<think>The answer is 1</think>I do not know", None),
    ],
)
def test_the_stated_answer(text: str, answer: str | None) -> None:
    assert stated(text) == answer


def test_boxes_and_tags_are_taken_apart_with_what_they_hold() -> None:
    assert boxed(r"\boxed{a{b}c} x \fbox{d}") == "d"
    assert boxed("no box }") is None
    assert tagged("<a>1</a><a><a>2</a>", "a") == ["1", "2"]


def test_exact_is_strict_about_the_place_and_lenient_about_nothing_but_the_place() -> None:
    accepted = ["Emil Korton"]
    readings = {
        "Emil Korton.": (True, True),
        "The answer is emil  korton": (True, True),
        "I say Emil Korton sold it": (False, True),
        "Emil Kortonson": (False, False),
        "<think>Emil Korton</think>": (False, False),
        "": (False, False),
    }
    for text, wanted in readings.items():
        match = match_exact(text, accepted)
        assert (match.strict, match.lenient) == wanted, text
    assert contains("我想是七吧", "七") and not contains("17 apples", "7") and contains("it is 7.", "7")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,200", 1200),
        ("$1,200.50", 1200.5),
        ("-3", -3),
        ("−3", -3),
        ("1.2e3", 1200),
        ("1.2×10^3", 1200),
        (r"1.2 \times 10^3", None),
        ("3/4", 0.75),
        (r"\frac{3}{4}", 0.75),
        (r"-\dfrac{3}{4}", -0.75),
        ("四分之三", 0.75),
        ("百分之七十五", 0.75),
        ("75%", 0.75),
        (r"75\%", 0.75),
        ("三十五", 35),
        ("负七", -7),
        ("3.5万", 35000),
        ("１２", 12),
        ("12 apples", 12),
        ("12个苹果", 12),
        (r"12\text{ cm}", 12),
        ("12 cm²", 12),
        (".5", 0.5),
        ("1/0", None),
        ("12 or 13", None),
        ("12-7", None),
        ("x", None),
        ("", None),
    ],
)
def test_the_value_of_a_text_that_is_one_number(text: str, value: float | None) -> None:
    assert value_of(text) == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("text", "wanted", "strict", "lenient"),
    [
        ("12 + 7 = 19", 19, True, True),
        ("12 + 7 = 19.", 19, True, True),
        ("It costs 19 dollars.", 19, True, True),
        ("一共十九个。", 19, True, True),
        ("19, because twelve and seven make that many, as you know", 19, False, True),
        ("The answer is 18. 19", 19, False, True),
        ("The answer is 19, not 18", 19, False, False),
        ("12\n7\n", 12, False, False),
        ("The answer is x = 19", 19, True, True),
        ("I counted 3, then 4; the answer is 1/2", 0.5, True, True),
        ("half, that is 1/2", 0.5, True, True),
        ("0", 0, True, True),
        ("", 0, False, False),
        ("1e400", 1, False, False),
    ],
)
def test_the_number_of_a_reply(text: str, wanted: float, strict: bool, lenient: bool) -> None:
    match = match_number(text, wanted)
    assert (match.strict, match.lenient) == (strict, lenient)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Who sold it?", "en"),
        ("谁卖的？", "zh"),
        ("这个 API 怎么用？", "zh"),
        ("What does 火 mean in this old text?", "en"),
        ("これは何ですか", "ja"),
        ("Кто это?", "ru"),
        ("이것은 무엇입니까", "ko"),
        ("12 + 7 = ?", None),
        ("x = y", None),
        ("```python\nprint('hello')\n```\n为什么报错？", "zh"),
    ],
)
def test_the_language_of_a_text(text: str, language: str | None) -> None:
    assert language_of(text) == language


def test_the_share_in_a_language_leaves_out_what_was_given() -> None:
    assert share_in("刘香英认识 Emil Korton", "zh") == 5 / 7
    assert share_in("刘香英认识 Emil Korton", "zh", given="谁认识 Emil Korton？") == 1.0
    assert share_in("12 + 7", "zh") is None
    assert share_in("东京は日本の首都です", "ja") == 1.0


def test_the_last_block_of_code_is_the_program() -> None:
    text = "```python\na = 1\n```\nor\n```py\nb = 2\n```\n```text\noutput\n```"
    assert code_of(text) == ("b = 2\n", "b = 2\n")
    assert code_of("b = 2") == (None, "b = 2")
    assert code_of("<think>```python\na\n```</think>none") == (None, "none")


def test_json_is_found_in_fences_and_anywhere() -> None:
    assert list(values_in('a {"b": [1]} c [2] {broken')) == [{"b": [1]}, [2]]
    assert list(values_in("no braces")) == []
    assert len(list(values_in("[" * 100_000))) == 0


def test_long_hostile_replies_come_to_an_end() -> None:
    for text in (
        "<answer>" * 20_000,
        r"\boxed{" * 20_000,
        "1," * 20_000,
        "答案" * 20_000,
        "`" * 50_000,
        "1/" * 20_000,
    ):
        match_exact(text, ["x"])
        match_number(text, 1.0)
        language_of(text)
        code_of(text)
