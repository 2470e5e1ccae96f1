"""Tool calls and reasoning told from the text: every family's format, streaming, and what is malformed stays text."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest

from luhuo.inference.answers import AnswerReader
from luhuo.inference.call_writer import CallPart, ToolCall, joined
from luhuo.inference.reasoning import KNOWN, ReasoningParser, is_open, marks_of
from luhuo.inference.tool_calls import ToolCallParser
from luhuo.inference.tool_formats import FORMATS, format_of
from tests.small_chat import small_tokenizer, with_template
from tests.tool_cases import TOOLS, WRITTEN

BEIJING = ("weather", {"city": "北京", "days": 2})
NOW = ("now", {})
FORMAT = {one.name: one for one in FORMATS}
BARE = {
    "llama": '{"name": "weather", "parameters": {"city": "北京", "days": 2}}; {"name": "now", "parameters": {}}',
    "json": ' [{"name": "weather", "arguments": {"city": "北京", "days": 2}}, {"name": "now", "arguments": "{}"}]',
}
OTHER_WAYS = [
    ("mistral", '[TOOL_CALLS]weather[ARGS]{"city": "北京", "days": 2}[TOOL_CALLS]now{}', [BEIJING, NOW]),
    ("mistral", '[TOOL_CALLS]weather[CALL_ID]abc123def[ARGS]{"city": "北京", "days": 2}', [BEIJING]),
    ("llama", '<|python_tag|>{"name": "now", "parameters": {}}', [NOW]),
    ("llama", '<|python_tag|>weather.call(city="北京", days=2)', [BEIJING]),
    ("hermes", '<tool_call>{"name": "now", "arguments": {}}', [NOW]),
    (
        "hermes",
        '<tool_call>{"name": "weather", "arguments": {"city": "</tool_call>"}}</tool_call>',
        [("weather", {"city": "</tool_call>"})],
    ),
    (
        "hermes",
        '<tool_call>{"name": "weather", "arguments": {"city": "a\nb"}}</tool_call>',
        [("weather", {"city": "a\nb"})],
    ),
]


def cut(text: str, chance: random.Random) -> list[str]:
    """The text in pieces of random sizes."""
    pieces, at = [], 0
    while at < len(text):
        size = chance.choice((1, 1, 2, 3, 7, 20))
        pieces.append(text[at : at + size])
        at += size
    return pieces


def read(name: str, pieces: Sequence[str], tools: Sequence = TOOLS) -> tuple[str, list[tuple[str, dict]], list[str]]:
    """Content, calls and problems of a text that arrives in these pieces."""
    parser = ToolCallParser(FORMAT[name], tools)
    found = [*map(parser.push, pieces), parser.flush()]
    calls = joined(part for piece in found for part in piece.calls)
    assert [call.index for call in calls] == list(range(len(calls))) and len({call.id for call in calls}) == len(calls)
    content = "".join(piece.content for piece in found)
    return content, [(call.name, arguments_of(call)) for call in calls], parser.problems


def arguments_of(call: ToolCall) -> dict | str:
    """The arguments; their text where it is only the beginning of some."""
    try:
        return json.loads(call.arguments)
    except ValueError:
        return call.arguments


@pytest.mark.parametrize("name", WRITTEN)
def test_calls_are_told_from_the_text_before_them(name: str):
    assert read(name, [WRITTEN[name]]) == ("我查一下。", [BEIJING, NOW], [])
    assert read(name, list(WRITTEN[name])) == ("我查一下。", [BEIJING, NOW], [])


@pytest.mark.parametrize("name", BARE)
def test_an_answer_that_is_json_from_its_start_can_be_calls(name: str):
    assert read(name, list(BARE[name])) == ("", [BEIJING, NOW], [])
    answer = '{"answer": [1, 2]}'
    assert read(name, list(answer)) == (answer, [], [])


@pytest.mark.parametrize(("name", "text", "expected"), OTHER_WAYS)
def test_other_ways_to_write_calls_of_the_same_families(name: str, text: str, expected: list):
    assert read(name, list(text)) == ("", expected, [])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hermes", '<tool_call>{"name": "weather", "city": }</tool_call>'),
        ("hermes", '<tool_call>{"name": "fly", "arguments": {}}</tool_call>'),
        ("hermes", '<tool_call>{"arguments": {}}</tool_call>'),
        ("hermes", '<tool_call>{"name": "now", "arguments": [1]}</tool_call>'),
        ("hermes", '<tool_call>{"name": "weather", "argu'),
        ("hermes", '<tool_call>{"arguments": {"city": "北京"}, "name": "wea'),
        ("hermes", "<tool_call>" + '{"function": ' * 3000),
        ("hermes", '<tool_call>{"name": "now", "x": ' + "[" * 3000),
        ("hermes", "The tag <tool_call> opens a call."),
        ("qwen-coder", "<tool_call><function=weather>oops</function></tool_call>"),
        ("qwen-coder", "<tool_call><function=fly><parameter=city>x</parameter></function></tool_call>"),
        ("glm", "<tool_call>weather<arg_key>city</arg_key>oops</tool_call>"),
        ("mistral", "[TOOL_CALLS] [1, 2]"),
        ("deepseek", "<｜tool▁call▁begin｜>weather<｜tool▁sep｜>no json<｜tool▁call▁end｜>"),
        ("llama", "<|python_tag|>import os"),
        ("llama", "<|python_tag|>weather.call(city=__import__('os').getcwd())"),
    ],
)
def test_a_malformed_call_stays_text_and_is_reported(name: str, text: str):
    content, calls, problems = read(name, list(text))
    assert content == text and not calls and len(problems) == 1


@pytest.mark.parametrize(
    ("name", "text", "arguments", "rest"),
    [
        ("hermes", '<tool_call>{"name": "weather", "arguments": {"city": "北', '{"city": "北', ""),
        ("hermes", '<tool_call>{"name": "weather", "arguments": {"days": -', '{"days": ', "-"),
        (
            "hermes",
            '<tool_call>{"name": "weather", "arguments": {"city": }</tool_call>',
            '{"city": ',
            "}</tool_call>",
        ),
        (
            "hermes",
            '<tool_call>{"name": "now", "arguments": {}} and more</tool_call>',
            {},
            "and more</tool_call>",
        ),
        (
            "mistral",
            '[TOOL_CALLS] [{"name": "now", "arguments": {}}, {"name": 1}]',
            {},
            ', {"name": 1}]',
        ),
        ("qwen-coder", "<tool_call><function=weather><parameter=city>\nx</par", '{"city": "x</par', ""),
        ("deepseek", '<｜tool▁call▁begin｜>weather<｜tool▁sep｜>{"city": tru}', '{"city": ', "tru}"),
    ],
)
def test_a_call_that_has_begun_keeps_what_was_written_and_the_rest_is_text(name: str, text: str, arguments, rest: str):
    content, calls, problems = read(name, list(text))
    assert [found for _, found in calls] == [arguments] and content == rest and len(problems) == 1
    assert read(name, [text]) == (content, calls, problems)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hermes", WRITTEN["hermes"]),
        ("mistral", WRITTEN["mistral"]),
        ("deepseek", WRITTEN["deepseek"]),
        ("qwen-coder", WRITTEN["qwen-coder"]),
        ("glm", WRITTEN["glm"]),
        ("llama", BARE["llama"]),
    ],
)
def test_arguments_go_out_as_they_are_written(name: str, text: str):
    """Of a call that is cut off anywhere behind the first character of its city, that character is out already."""
    parser = ToolCallParser(FORMAT[name], TOOLS)
    place = text.index("北") + 1
    parts = [part for character in text[:place] for part in parser.push(character).calls]
    assert (
        parts[0].name == "weather" and parts[0].id and [part.name for part in parts[1:]] == [None] * (len(parts) - 1)
    )
    assert joined(parts)[0].arguments == '{"city": "北' and len(parts) > 1
    assert parser.push(text[place]).calls == [CallPart(0, "京")]


def test_what_models_get_wrong_inside_of_strings_is_put_right_on_the_way():
    text = '<tool_call>{"name": "weather", "arguments": {"city": "a\nb\t\\d\\u12x\\n\\u5317"}}</tool_call>'
    expected = ("weather", {"city": "a\nb\t\\d\\u12x\n北"})
    assert read("hermes", list(text)) == ("", [expected], []) == read("hermes", [text])


def test_a_number_that_json_does_not_know_ends_the_arguments():
    for wrong in ("NaN", "01", "1.", "+1", "1" * 500, "tru", "'x'"):
        text = f'<tool_call>{{"name": "weather", "arguments": {{"days": {wrong}}}}}</tool_call>'
        content, calls, problems = read("hermes", list(text))
        assert calls == [("weather", '{"days": ')] and content == f"{wrong}}}}}</tool_call>" and len(problems) == 1


def test_a_good_call_behind_a_malformed_one_is_found():
    text = '<tool_call>{"name": }</tool_call> ' + '<tool_call>{"name": "now", "arguments": {}}</tool_call>'
    content, calls, problems = read("hermes", list(text))
    assert content == '<tool_call>{"name": }</tool_call>' and calls == [NOW] and len(problems) == 1


@pytest.mark.parametrize("name", FORMAT)
def test_any_stream_gives_what_the_whole_text_gives_and_nothing_crashes(name: str):
    chance = random.Random(name)
    fragments = [*FORMAT[name].marks, *OTHER_WAYS[0][1:2], *WRITTEN.values(), *BARE.values(), "</tool_call>", "<tool_"]
    fragments += [
        "[ARGS]",
        "<function=now>",
        "</function>",
        "<arg_key>",
        "</arg_key>",
        "<arg_value>",
        "<｜tool▁sep｜>",
    ]
    fragments += [
        "weather",
        "now",
        "{",
        "}",
        "[",
        "]",
        '"',
        "\\",
        '{"name": "now"}',
        "\n",
        " ",
        ";",
        ",",
        "北",
        "```json",
        "x.call(",
    ]
    for _ in range(150):
        text = "".join(chance.choice(fragments) for _ in range(chance.randrange(9)))
        text = "".join(c for c in text if chance.random() > 0.01)
        whole = read(name, [text], TOOLS)
        assert read(name, cut(text, chance), TOOLS) == whole
        if not whole[1] and not any(mark in text for mark in FORMAT[name].ignored):
            assert whole[0] == text


def test_a_long_answer_is_read_once_not_over_and_over():
    text = '<tool_call>{"name": "weather", "arguments": {"city": "' + "长" * 30_000 + '"}}</tool_call>'
    _, calls, _ = read("hermes", [text[i : i + 3] for i in range(0, len(text), 3)])
    assert len(calls[0][1]["city"]) == 30_000


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{{ tools }}<tool_call>{'name'", "hermes"),
        ("<tool_call><function={{ name }}>", "qwen-coder"),
        ("<tool_call>{{ name }}<arg_key>", "glm"),
        ("[TOOL_CALLS]", "mistral"),
        ("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>", "deepseek"),
        ("<|python_tag|>", "llama"),
        ("nothing", "json"),
    ],
)
def test_the_format_is_told_from_the_template(template: str, name: str):
    assert format_of(with_template(template)).name == name


# Reasoning


def think(pieces: Sequence[str], *, inside: bool = False) -> tuple[str, str]:
    parser = ReasoningParser(KNOWN[0], inside=inside)
    found = [*map(parser.push, pieces), parser.flush()]
    return "".join(r for r, _ in found), "".join(a for _, a in found)


@pytest.mark.parametrize(
    ("text", "inside", "expected"),
    [
        ("<think>\nhm, 想想\n</think>\n\n42", False, ("hm, 想想", "42")),
        ("hm\n</think>\n42", True, ("hm", "42")),
        (" \n<think>a</think>b<think>c</think>", False, ("a", "b<think>c</think>")),
        ("no thought at all", False, ("", "no thought at all")),
        ("<thin air", False, ("", "<thin air")),
        ("<think>cut off </thi", False, ("cut off </thi", "")),
        ("<think></think>", False, ("", "")),
        ("", True, ("", "")),
    ],
)
def test_reasoning_is_told_from_the_answer(text: str, inside: bool, expected: tuple[str, str]):
    assert think([text], inside=inside) == think(list(text), inside=inside) == expected


def test_any_stream_of_reasoning_gives_what_the_whole_text_gives():
    chance = random.Random(0)
    fragments = ["<think>", "</think>", "<", "</th", "ink>", " ", "\n", "ab", "字", "think"]
    for _ in range(400):
        text = "".join(chance.choice(fragments) for _ in range(chance.randrange(10)))
        inside = chance.random() < 0.5
        assert think(cut(text, chance), inside=inside) == think([text], inside=inside)


def test_a_template_that_opens_the_reasoning_is_noticed():
    tokenizer = with_template("{{ messages[0].content }}<think>\n{# </think> #}{{ '</think>' if false }}")
    prompt = tokenizer.encode("hello<think>\n")
    assert marks_of(tokenizer) == KNOWN[0] and is_open(tokenizer, prompt)
    assert not is_open(tokenizer, tokenizer.encode("hello<think>\n\n</think>\n\n"))
    assert not is_open(small_tokenizer(), prompt)


def test_reasoning_content_and_calls_come_apart_together():
    tokenizer = with_template("{{ tools }}<tool_call><think></think>")
    text = "<think>which city?</think>\nLet me see. " + WRITTEN["hermes"].partition("\n")[2]
    reader = AnswerReader(tokenizer, tokenizer.encode("x"), TOOLS)
    deltas = [*map(reader.push, text), reader.flush()]
    assert "".join(d.reasoning for d in deltas) == "which city?"
    assert "".join(d.content for d in deltas) == "Let me see."
    assert [c.name for c in joined(part for d in deltas for part in d.tool_calls)] == ["weather", "now"]
    assert reader.finish_reason("stop") == "tool_calls" and reader.finish_reason("length") == "length"
