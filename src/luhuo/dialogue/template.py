"""Chat templates: Jinja text from a model directory, run in a sandbox with bounded work and size.

A template is data from strangers. It sees plain messages only, reaches no Python attribute, and every loop step,
call and written character is counted, so that it can neither hang the process nor fill its memory.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

MAX_STEPS = 200_000
"""Loop steps and calls that one rendering may take."""
MAX_SIZE = 8_000_000
"""Characters that one rendering may write, and the longest text or list it may build."""
MAX_SECONDS = 10.0

METHODS = """
strip lstrip rstrip startswith endswith split rsplit splitlines lower upper title capitalize find rfind index count
isdigit isalpha isspace removeprefix removesuffix partition rpartition replace items keys values get
""".split()  # noqa: SIM905
FILTERS = """
trim length count string upper lower title capitalize first last list default d map select reject selectattr rejectattr
items int float safe escape e sort unique dictsort reverse abs round
""".split()  # noqa: SIM905


class _Generation(Extension):
    """`{% generation %} … {% endgeneration %}`: a mark of other tools; the renderer finds the answers by itself."""

    tags = {"generation"}  # noqa: RUF012 (the interface of jinja2)

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Budget(threading.local):
    """Work and characters left to the rendering that this thread does."""

    def reset(self) -> None:
        self.steps, self.size, self.end = MAX_STEPS, MAX_SIZE, time.monotonic() + MAX_SECONDS

    def step(self, count: int = 1) -> None:
        self.steps -= count
        if self.steps < 0 or time.monotonic() > self.end:
            raise SecurityError(f"more than {MAX_STEPS:,} steps or {MAX_SECONDS:.0f} s")

    def write(self, value: Any) -> Any:
        self.size -= len(str(value))
        if self.size < 0:
            raise SecurityError(f"more than {MAX_SIZE:,} characters")
        return value

    def loop(self, items: Any) -> list[Any]:
        steps = []
        for item in items:
            self.step()
            steps.append(item)
        return steps


class _Sandbox(ImmutableSandboxedEnvironment):
    """Only plain text and list operations; each is measured before it is done."""

    intercepted_binops = frozenset(["*", "+", "-", "**", "%", "//"])

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation])
        self.budget = _Budget()
        own = {"tojson": _tojson, "replace": _replace, "join": _join}
        meters = {"luhuo_loop": self.budget.loop, "luhuo_write": self.budget.write, "luhuo_concat": _concat}
        self.filters = {name: f for name, f in self.filters.items() if name in FILTERS} | own | meters
        self.globals = {"raise_exception": _raise, "namespace": self.globals["namespace"], "range": self._range}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _meter(super()._parse(source, name, filename))

    def _range(self, *bounds: int) -> range:
        steps = range(*bounds)
        self.budget.step(len(steps))
        return steps

    def wrap_str_format(self, value: Any) -> None:
        """`str.format` is an attribute like any other here, and not among the allowed ones."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        plain = isinstance(obj, (str, list, tuple, dict, int, float))
        return super().is_safe_attribute(obj, attr, value) and (not plain or attr in METHODS)

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        self.budget.step()
        if getattr(obj, "__name__", "") == "replace" and isinstance(getattr(obj, "__self__", None), str):
            return _replace(obj.__self__, *args)
        return _sized(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
        if operator == "**" or not (numbers or operator == "+"):
            raise SecurityError(f"the operator {operator} on {type(left).__name__}")
        return _sized(super().call_binop(context, operator, left, right))


def _meter(tree: nodes.Template) -> nodes.Template:
    """Put a counter around every loop and everything written."""
    for loop in tree.find_all(nodes.For):
        loop.iter = _filtered(loop.iter, "luhuo_loop")
    for output in tree.find_all(nodes.Output):
        output.nodes = [n if isinstance(n, nodes.TemplateData) else _filtered(n, "luhuo_write") for n in output.nodes]
    return _Concats().visit(tree)


class _Concats(NodeTransformer):
    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:  # noqa: N802 (the interface of jinja2)
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes), "luhuo_concat")


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)  # type: ignore[arg-type]


def _sized(value: Any) -> Any:
    if isinstance(value, (str, list, tuple)) and len(value) > MAX_SIZE:
        raise SecurityError(f"a value longer than {MAX_SIZE:,}")
    if isinstance(value, int) and abs(value) > 1 << 63:
        raise SecurityError("a number beyond 64 bits")
    return value


def _concat(parts: list[Any], separator: str = "") -> str:
    texts = [str(part) for part in parts]
    if sum(map(len, texts)) + len(separator) * len(texts) > MAX_SIZE:
        raise SecurityError(f"a text longer than {MAX_SIZE:,}")
    return separator.join(texts)


def _join(parts: Iterable[Any], separator: str = "") -> str:
    return _concat(list(parts), separator)


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    if len(text) + text.count(old) * len(new) > MAX_SIZE:
        raise SecurityError(f"a text longer than {MAX_SIZE:,}")
    return text.replace(old, new, count)


def _tojson(value: Any, indent: int | None = None, ensure_ascii: bool = False, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=min(indent, 8) if indent else None)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(str(message)[:500])


@lru_cache(maxsize=32)
def _compiled(source: str) -> tuple[_Sandbox, jinja2.Template]:
    sandbox = _Sandbox()
    return sandbox, sandbox.from_string(source)


def render_text(
    source: str,
    messages: list[dict[str, str]],
    *,
    generation_prompt: bool = False,
    tokens: Mapping[str, str] | None = None,
) -> str:
    """The template's text for these messages. `tokens` are names such as `eos_token` that templates use.

    The current date (`strftime_now`) is not offered: equal conversations give equal text on every day.
    Raises `LuhuoError` when the template is not valid, refuses the messages, or exceeds its bounds.
    """
    if len(source) > 1_000_000:
        raise _refused("the template is longer than 1,000,000 characters")
    try:
        sandbox, template = _compiled(source)
        sandbox.budget.reset()
        return template.render(messages=messages, add_generation_prompt=generation_prompt, **(tokens or {}))
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        raise _refused(f"{type(error).__name__}: {error}") from None


def _refused(why: str) -> LuhuoError:
    return LuhuoError(
        tr("The chat template could not be rendered.", "对话模板无法渲染。"),
        found=why,
        where="chat_template",
        fix=tr(
            "Compare the conversation's roles with what the template accepts, or give the tokenizer another template.",
            "请核对对话角色是否被模板接受，或为分词器换一个模板。",
        ),
    )
