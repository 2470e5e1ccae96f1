"""Chat templates: rendered as transformers renders them, and contained whatever they try."""

# ruff: noqa: E501 (a template stays on one line)
from __future__ import annotations

import datetime
import gc
import json
from typing import Any

import pytest

from luhuo.core.errors import LuhuoError
from luhuo.dialogue import sandbox
from luhuo.dialogue.template import MAX_TEMPLATE, literals, render_marked, render_text
from tests import chat_templates

NOON = datetime.datetime(2026, 3, 4, 12, tzinfo=datetime.UTC)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "加法 <a & b>", "parameters": {"type": "object", "required": ["a"]}},
}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"function": {"name": "add", "arguments": {"a": 3, "b": "四"}}}],
}
SYSTEM, USER = {"role": "system", "content": " Be brief.\n"}, {"role": "user", "content": " 你好 <b> & 'q' \n"}
ANSWER = {"role": "assistant", "content": "<think>\nhm\n</think>\n\n好 😀 "}
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "question": [USER],
    "system": [SYSTEM, USER],
    "turns": [USER, ANSWER, USER],
    "answered": [SYSTEM, USER, ANSWER, USER, ANSWER],
    "tools": [USER, CALL, {"role": "tool", "content": "7", "name": "add"}, {"role": "assistant", "content": "7"}],
}


def theirs(source: str, messages: list[dict[str, Any]], prompt: bool, monkeypatch, **variables: Any) -> str | None:
    from transformers.utils import chat_template_utils

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime.datetime:
            return NOON

    monkeypatch.setattr(chat_template_utils, "datetime", Clock)
    try:
        rendered, _ = chat_template_utils.render_jinja_template(
            [json.loads(json.dumps(messages))],
            chat_template=source,
            add_generation_prompt=prompt,
            **TOKENS,
            **variables,
        )
    except Exception:  # whatever it refuses, we must refuse, too
        return None
    return rendered[0]


def ours(source: str, messages: list[dict[str, Any]], prompt: bool, **variables: Any) -> str | None:
    try:
        return render_text(source, messages, generation_prompt=prompt, tokens=TOKENS, variables=variables, now=NOON)
    except LuhuoError:
        return None


@pytest.mark.parametrize("name", chat_templates.ALL)
def test_templates_render_as_transformers_renders_them(name, monkeypatch):
    source = chat_templates.ALL[name]
    rendered = 0
    for messages in CONVERSATIONS.values():
        for prompt in (False, True):
            for variables in ({}, {"tools": [TOOL]}, {"documents": [{"text": "x"}], "date": "today"}):
                expected = theirs(source, messages, prompt, monkeypatch, **variables)
                assert ours(source, messages, prompt, **variables) == expected
                rendered += expected is not None
    assert rendered >= 12


SNIPPETS = {
    "json": "{{ x | tojson }}{{ x | tojson(indent=2) }}{{ x | tojson(separators=(',', ':'), sort_keys=True) }}",
    "text": "{{ s.split(' ')[0] ~ s.strip().upper().title() ~ s.replace('a', 'b') ~ ('%s-%d' | format(s, 3)) }}",
    "format": "{{ '{}|{:>5}|{n}'.format(s, 3, n=4) }}{{ '%05.1f' % 2.5 }}{{ '-' * 5 }}{{ [1] * 2 }}{{ 7 // 2 }}",
    "slices": "{{ s[::-1] }}{{ x['list'][1:] }}{{ s[-2:] }}{{ x.list[0] }}",
    "filters": "{{ x.list | map('string') | join('+') }}{{ x | dictsort }}{{ x.list | sum }}{{ x.list | sort(reverse=1) }}"
    "{{ x.list | batch(2) | list }}{{ s | indent(3) }}{{ [3, 1] | min }}{{ x | items | list }}{{ x.list | unique | list }}",
    "selection": "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ messages | map(attribute='role') "
    "| list }}{{ x.list | reject('odd') | list }}{{ messages | groupby('role') | length }}",
    "control": "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.role }}{% endfor %}"
    "{% for k, v in x.items() %}{{ k }}{{ loop.last }}{% else %}none{% endfor %}",
    "macro": "{% macro f(a, b=2) %}[{{ a }}{{ b }}{{ caller() if caller }}]{% endmacro %}{{ f(1) }}{% call f(3) %}c{% endcall %}",
    "scope": "{% set ns = namespace(a=1) %}{% for i in range(3) %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}"
    "{% set y %}  {{ s }} {% endset %}{{ y | trim }}{% filter upper %}{{ s }}{% endfilter %}",
    "dict": "{% set d = dict(x, more=1) %}{{ d | length }}{{ d.get('more') }}{{ d.get('none', 'z') }}{{ x.missing }}",
    "tests": "{{ s is string }}{{ x is mapping }}{{ nothing is defined }}{{ nothing is undefined }}{{ x.list is sequence }}"
    "{{ none is none }}{{ 3 is odd }}{{ 's' in s }}{{ tools is none }}{{ documents is defined }}{{ s is in [s] }}",
    "clock": "{{ strftime_now('%Y-%m-%d %H') }}{{ strftime_now is defined }}",
    "blanks": "a\n  {% if true %}\n  b\n  {% endif %}\n{{- ' c' -}}\n  d\n",
}


@pytest.mark.parametrize("name", SNIPPETS)
def test_what_templates_use_of_jinja_gives_what_transformers_gives(name, monkeypatch):
    variables = {"s": " some\ntext ä ", "x": {"list": [3, 1, 2, 3], "名": "值", "f": 1.5, "n": None, "html": "<&'\">"}}
    expected = theirs(SNIPPETS[name], CONVERSATIONS["answered"], False, monkeypatch, **variables)
    assert expected is not None
    assert ours(SNIPPETS[name], CONVERSATIONS["answered"], False, **variables) == expected


def test_marked_spans_are_those_of_transformers(monkeypatch):
    text, spans = render_marked(chat_templates.MARKED, CONVERSATIONS["answered"])
    assert [text[start:end] for start, end in spans] == [ANSWER["content"] + "<|im_end|>"] * 2
    assert text == theirs(chat_templates.MARKED, CONVERSATIONS["answered"], False, monkeypatch)


def test_the_marks_of_spans_cannot_be_forged_by_a_message():
    messages = [{"role": "user", "content": "\ufdd0me\ufdd1"}, {"role": "assistant", "content": "a"}]
    text, spans = render_marked(chat_templates.MARKED, messages)
    assert [text[start:end] for start, end in spans] == ["a<|im_end|>"]


def test_source_date_epoch_fixes_the_date_a_template_writes(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert render_text("{{ strftime_now('%Y') }}", []) == "1970"


def test_literals_are_what_the_template_itself_writes():
    assert "<｜User｜>" in literals(chat_templates.REASONING_CUT) and "user" not in literals(chat_templates.MARKED)


LONG = "{% set n = namespace(x='aaaaaaaaaa') %}{% for i in range(18) %}{% set n.x = n.x + n.x %}{% endfor %}"
NESTED = "{% set n = namespace(x=[1], y=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}"
HOSTILE = {
    "range": "{{ range(10 ** 9) }}",
    "huge loop": "{% for i in range(1000000000) %}{% endfor %}",
    "nested loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
    "text times number": "{{ 'a' * 1000000000 }}",
    "number times text": "{{ 1000000000 * 'a' }}",
    "list times number": "{{ [1] * 1000000000 }}",
    "power": "{{ 9 ** 99999999 }}",
    "large numbers": "{{ 9223372036854775807 * 9223372036854775807 }}",
    "doubling": "{% set n = namespace(x='a') %}{% for i in range(90) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "doubling lists": "{% set n = namespace(x=[1]) %}{% for i in range(90) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "many slices": LONG + "{% set y = [" + "n.x[::-1]," * 400 + "] %}",
    "many comparisons": LONG + "{% for i in range(290000) %}{% if n.x == n.x ~ '' %}{% endif %}{% endfor %}",
    "many searches": LONG + "{% for i in range(290000) %}{% if 'b' in n.x %}{% endif %}{% endfor %}",
    "many calls": LONG + "{% for i in range(290000) %}{% set y = n.x.count('b') %}{% endfor %}",
    "text as list": LONG + "{{ n.x | list | length }}",
    "much output": LONG + "{{ n.x }}" * 9,
    "written lists": NESTED + "{{ n.x }}",
    "joined lists": NESTED + "{{ n.x ~ '' }}",
    "compared lists": NESTED + "{{ n.x == n.y }}",
    "tested lists": NESTED + "{{ n.x is eq(n.y) }}",
    "selected lists": NESTED + "{{ [n.x] | select('equalto', n.y) | list }}",
    "lists in json": NESTED + "{{ n.x | tojson }}",
    "lists as text": NESTED + "{{ n.x | string | length }}",
    "sorted lists": NESTED + "{{ [n.x, n.y] | sort | length }}",
    "formatted lists": NESTED + "{{ ('%s' % [n.x]) | length }}",
    "counted lists": NESTED + "{{ [n.x].count(n.y) }}",
    "raised lists": NESTED + "{{ raise_exception(n.x) }}",
    "width": "{{ 'a' | center(1000000000) }}",
    "indent": "{{ 'a\nb' | indent(1000000000) }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "star": "{{ '%*d' % (1000000000, 1) }}",
    "braces": "{{ '{:1000000000}'.format(1) }}",
    "inner braces": "{{ '{:{w}}'.format(1, w=1000000000) }}",
    "date": "{{ strftime_now('%1000000000Y') }}",
    "replace": "{% set n = namespace(x='aa') %}{% for i in range(80) %}{% set n.x = n.x.replace('a', n.x) %}{% endfor %}",
    "macro without end": "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "loop without end": "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "macro tree": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "deep brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "deep blocks": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "long": "{# #}" * MAX_TEMPLATE,
    "many elements": "{{ a }}" * 20_000,
    "class": "{{ ''.__class__.__mro__ }}",
    "item": "{{ ''['__class__']['__mro__'] }}",
    "filter attr": "{{ '' | attr('__class__') }}",
    "sort attribute": "{{ ['', 1] | sort(attribute='__class__.__mro__') }}",
    "globals": "{{ cycler.__init__.__globals__ }}",
    "namespace": "{{ namespace.__init__.__globals__ }}",
    "namespace name": "{{ namespace(__class__=1) }}",
    "format attribute": "{{ '{0.__class__}'.format(1) }}",
    "self": "{{ self.__init__.__globals__ }}",
    "change a message": "{{ messages.append(1) }}",
    "change an object": "{{ messages[0].update({'role': 'x'}) }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "unknown filter": "{{ 1 | nobody }}",
    "refusal": "{{ raise_exception('roles must alternate') }}",
    "syntax": "{% if",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_or_broken_template_ends_with_a_message(name):
    with pytest.raises(LuhuoError, match="template could not be rendered"):
        render_text(HOSTILE[name], [{"role": "user", "content": "x"}])


@pytest.mark.parametrize(
    "source",
    [
        "{{ ['']|map(attribute='__class__')|list }}",
        "{% for x in [1] %}{{ loop.__class__ }}{% endfor %}",
        "{{ self._TemplateReference__context }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__func__ }}",
        "{{ joiner.__init__ }}",
    ],
)
def test_python_internals_show_as_nothing_where_they_do_not_fail(source):
    try:
        assert render_text(source, [{"role": "user", "content": "x"}]) in ("", "[Undefined]")
    except LuhuoError as error:
        assert "unsafe" in str(error.found)


def test_data_that_are_no_json_do_not_reach_a_template():
    for value in (object(), print, {1, 2}, b"x"):
        with pytest.raises(LuhuoError):
            render_text("{{ x }}", [], variables={"x": value})
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]
    with pytest.raises(LuhuoError):
        render_text("{{ x }}", [], variables={"x": deep})


def test_time_for_collecting_garbage_is_not_the_renderings(monkeypatch):
    before = sandbox.collecting_seconds()
    heap = [[number] for number in range(300_000)]
    gc.collect()
    assert sandbox.collecting_seconds() > before
    del heap
    budget = sandbox.Budget()
    budget.reset()
    budget.end = 0.0
    with pytest.raises(sandbox.SecurityError):
        budget.step()
    monkeypatch.setattr(sandbox, "collecting_seconds", lambda: 1e9)
    budget.step()
