"""Templates and expressions of task files, over the fields of one item."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

FAILURES = (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)
"""What a template raises whose item is not as it expects."""


class TemplateFailed(LuhuoError):
    """A template of a task file and an item that do not fit together."""


def _substituted(text: object, pattern: str, replacement: str = "") -> str:
    return re.sub(pattern, replacement, str(text))


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters["sub"] = _substituted
    environment.globals = {"range": range, "zip": zip, "len": len, "enumerate": enumerate}
    return environment


@lru_cache(maxsize=512)
def _template(source: str) -> jinja2.Template:
    return _environment().from_string(source)


@lru_cache(maxsize=512)
def _expression(source: str) -> Callable[..., Any]:
    return _environment().compile_expression(source, undefined_to_none=False)


def filled(source: str, fields: Mapping[str, Any], where: str) -> str:
    """The text of a template. Raises `TemplateFailed` that names the template, the place and the item's fields."""
    try:
        return _template(source).render(fields)
    except FAILURES as error:
        raise _failed(source, fields, where, error) from None


def valued(source: str, fields: Mapping[str, Any], where: str) -> Any:
    """The value of an expression, of whatever type it has. Raises `TemplateFailed`."""
    try:
        value = _expression(source)(**fields)
    except FAILURES as error:
        raise _failed(source, fields, where, error) from None
    if isinstance(value, jinja2.Undefined):
        raise _failed(source, fields, where, jinja2.UndefinedError(tr("undefined", "未定义")))
    return value


def _failed(source: str, fields: Mapping[str, Any], where: str, error: Exception) -> TemplateFailed:
    shown = source if len(source) <= 200 else source[:200] + "…"
    return TemplateFailed(
        tr("A template of the task does not fit this item.", "任务模板与该题目不符。"),
        expected=tr(
            f"fields of the item: {', '.join(map(str, fields))}", f"题目的字段：{'、'.join(map(str, fields))}"
        ),
        found=f"{type(error).__name__}: {error} — {shown!r}",
        where=where,
        fix=tr("Mend the task file, or give the data in its layout.", "请修改任务文件，或按其格式提供数据。"),
    )
