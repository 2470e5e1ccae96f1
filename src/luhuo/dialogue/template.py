"""Chat templates: Jinja text from a model directory, rendered in a sandbox as `transformers` renders it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.dialogue.sandbox import MARK_END, MARK_START, Sandbox

MAX_TEMPLATE = 200_000
"""Characters of a template; published ones stay below 20,000."""
MAX_DEPTH = 64
"""Nesting of data given to a template."""

Message = Mapping[str, Any]


def render_text(
    source: str,
    messages: Sequence[Message],
    *,
    generation_prompt: bool = False,
    tokens: Mapping[str, str] | None = None,
    variables: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> str:
    """The template's text for these messages.

    `tokens` are names such as `eos_token`; `variables` whatever else the template knows (`tools`, `documents`,
    `enable_thinking`, …); `now` is the time that `strftime_now` tells, by default the current one (or that of
    `SOURCE_DATE_EPOCH`). Raises `LuhuoError` when the template is not valid, refuses the messages, or exceeds its
    bounds.
    """
    options = {"generation_prompt": generation_prompt, "tokens": tokens, "variables": variables, "now": now}
    return render_marked(source, messages, **options)[0]


def render_marked(
    source: str,
    messages: Sequence[Message],
    *,
    generation_prompt: bool = False,
    tokens: Mapping[str, str] | None = None,
    variables: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> tuple[str, list[tuple[int, int]]]:
    """As `render_text`, with the spans that the template marks as the assistant's (`{% generation %}`)."""
    if len(source) > MAX_TEMPLATE:
        raise refused(f"the template is longer than {MAX_TEMPLATE:,} characters")
    marked = "endgeneration" in source
    given = {"tools": None, "documents": None, **(tokens or {}), **(variables or {})}
    given |= {"messages": list(messages), "add_generation_prompt": generation_prompt}
    try:
        sandbox, template = _compiled(source)
        sandbox.budget.reset(now)
        text = template.render({name: _plain(value, marked) for name, value in given.items()})
    except (
        jinja2.TemplateError,
        TypeError,
        ValueError,
        ArithmeticError,
        LookupError,
        AttributeError,
        RecursionError,
        MemoryError,
    ) as error:
        raise refused(f"{type(error).__name__}: {error}") from None
    return _spans(text) if marked else (text, [])


@lru_cache(maxsize=32)
def _compiled(source: str) -> tuple[Sandbox, jinja2.Template]:
    sandbox = Sandbox()
    try:
        return sandbox, sandbox.from_string(source)
    except (SyntaxError, RecursionError, MemoryError) as error:  # of the code that jinja2 makes of it
        raise refused(f"{type(error).__name__}: {error}") from None


def literals(source: str) -> str:
    """The text that a template writes itself, its pieces apart: what stands outside of expressions, and strings."""
    try:
        tree = Sandbox().parse(source)
    except (jinja2.TemplateError, RecursionError) as error:
        raise refused(f"{type(error).__name__}: {error}") from None
    pieces = [node.data for node in tree.find_all(nodes.TemplateData)]
    pieces += [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    return "\0".join(pieces)


def _spans(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without marks, and what stood between them."""
    pieces: list[str] = []
    spans: list[tuple[int, int]] = []
    at, start, depth = 0, 0, 0
    for index, part in enumerate(text.split(MARK_START)):
        if index:
            start = at if depth == 0 else start
            depth += 1
        for number, piece in enumerate(part.split(MARK_END)):
            if number:
                depth -= 1
                if depth == 0:
                    spans.append((start, at))
            pieces.append(piece)
            at += len(piece)
    return "".join(pieces), spans


def _plain(value: Any, marked: bool, depth: int = 0) -> Any:
    """The value as JSON would hold it: nothing else reaches a template. Our own marks in it become U+FFFD."""
    if depth > MAX_DEPTH:
        raise ValueError(f"data nested deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        text = str.__str__(value)
        return text.replace(MARK_START, "\ufffd").replace(MARK_END, "\ufffd") if marked else text
    if value is None or type(value) in (bool, int, float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item, marked, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, marked, depth + 1) for item in value]
    raise TypeError(f"a template takes text, numbers, lists and objects, not {type(value).__name__}")


def refused(why: str) -> LuhuoError:
    """The error for a template that cannot be used."""
    return LuhuoError(
        tr("The chat template could not be rendered.", "对话模板无法渲染。"),
        found=why,
        where="chat_template",
        fix=tr(
            "Compare the conversation's roles with what the template accepts, or give the tokenizer another template.",
            "请核对对话角色是否被模板接受，或为分词器换一个模板。",
        ),
    )
