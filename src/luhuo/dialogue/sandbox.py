"""A Jinja environment for templates from strangers: no Python internals, bounded time, work and memory.

A template sees plain data only. Every loop step, call, comparison and assignment is counted, everything that is
built is measured, and operations whose result would be large are refused before they are done.
"""

from __future__ import annotations

import json
import os
import re
import string
import threading
import time
from collections.abc import Callable, ItemsView, Iterable, KeysView, Mapping, ValuesView
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from luhuo.dialogue.garbage import collecting_seconds

MAX_STEPS = 300_000
"""Loop steps, calls and the like that one rendering may take."""
MAX_SIZE = 8_000_000
"""Characters that one rendering may write, and the longest text or list it may build."""
MAX_MADE = 8 * MAX_SIZE
"""Characters and entries that one rendering may build in all."""
MAX_SECONDS = 1.0
"""Processor time of one rendering; an ordinary conversation takes a thousandth of it."""
MAX_NODES = 10_000
"""Size of the parsed template; the largest published ones have 1,500."""
MAX_WIDTH = 10_000
"""Largest number given to a filter that pads or groups."""

MARK_START, MARK_END = "\ufdd0", "\ufdd1"
"""Noncharacters around what stands between `{% generation %}` and `{% endgeneration %}`."""

METHODS = """
strip lstrip rstrip startswith endswith split rsplit splitlines lower upper title capitalize swapcase find rfind index
count isdigit isalpha isalnum isnumeric isdecimal isspace isupper islower istitle removeprefix removesuffix partition
rpartition replace join format items keys values get
""".split()  # noqa: SIM905
LINEAR_FILTERS = """
trim length count string upper lower title capitalize first last default d float safe escape e forceescape abs round
int urlencode striptags truncate center
""".split()  # noqa: SIM905
ENTRY_FILTERS = """
list map select reject selectattr rejectattr items sort unique dictsort reverse sum min max groupby batch slice
""".split()  # noqa: SIM905
"""Filters that go through a text or list entry by entry."""
PADDING_FILTERS = ("truncate", "center", "batch", "slice", "round")
SHALLOW_FILTERS = """
length count first last default d list map select reject selectattr rejectattr items reverse batch slice
""".split()  # noqa: SIM905
"""Filters that do not look into the entries of a list."""
COMPARING_TESTS = """
eq equalto == ne != lt lessthan < gt greaterthan > le <= ge >= in sameas
""".split()  # noqa: SIM905


class Budget(threading.local):
    """What the rendering that this thread does may still use."""

    steps, size, made, end, collected = 0, 0, 0, 0.0, 0.0
    now = datetime.fromtimestamp(0, UTC)

    def reset(self, now: datetime | None = None) -> None:
        """Start a rendering. `now` is the time that `strftime_now` tells."""
        self.steps, self.size, self.made = MAX_STEPS, MAX_SIZE, MAX_MADE
        self.end = time.thread_time() + MAX_SECONDS
        self.collected = collecting_seconds()
        self.now = now or clock()

    def step(self, count: int = 1) -> None:
        self.steps -= count
        over = time.thread_time() > self.end and time.thread_time() - collecting_seconds() + self.collected > self.end
        if self.steps < 0 or over:
            raise SecurityError(f"more than {MAX_STEPS:,} steps or {MAX_SECONDS:.0f} s")

    def passed(self, value: Any) -> Any:
        """A value on its way through an assignment, a comparison, an operator or a call."""
        self.step()
        if isinstance(value, (str, list, tuple, dict, bytes)):
            self.made -= len(value)
            if len(value) > MAX_SIZE or self.made < 0:
                raise SecurityError(f"more than {MAX_SIZE:,} characters or entries")
        elif isinstance(value, int) and abs(value) > 1 << 63:
            raise SecurityError("a number beyond 64 bits")
        return value

    def checked(self, value: Any) -> Any:
        """A value that is only looked at."""
        self.step()
        return value

    def walked(self, value: Any) -> Any:
        """A value that is compared or written: lists in lists can be far longer than they look."""
        waiting = [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, (str, int, float, type(None))):
                continue
            self.step()
            if isinstance(item, Mapping):
                self.step(len(item))
                waiting += [*item.keys(), *item.values()]
            elif isinstance(item, (list, tuple, KeysView, ValuesView, ItemsView)):
                self.step(len(item))
                waiting += item
            elif isinstance(item, Namespace):
                waiting.append(vars(item))
        return value

    def write(self, value: Any) -> Any:
        text = str(self.walked(value))
        self.size -= len(text)
        self.step()
        if self.size < 0:
            raise SecurityError(f"more than {MAX_SIZE:,} characters")
        return value

    def loop(self, items: Any) -> list[Any]:
        steps = []
        for item in items:
            self.step()
            steps.append(item)
        return steps


def clock() -> datetime:
    """Now, or the time that `SOURCE_DATE_EPOCH` fixes: with it, a template that writes the date can be repeated."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    return datetime.fromtimestamp(int(fixed), UTC) if fixed.isdigit() else datetime.now()


class _Generation(Extension):
    """`{% generation %} … {% endgeneration %}`: the template says itself what the assistant writes."""

    tags = {"generation"}  # noqa: RUF012 (the interface of jinja2)

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        opening, closing = (nodes.Output([nodes.TemplateData(mark)], lineno=line) for mark in (MARK_START, MARK_END))
        return [opening, *body, closing]


class _Names(Namespace):
    """`namespace()` whose names cannot start with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        values = dict(*args[1:], **kwargs)
        if any(str(name).startswith("_") for name in values):
            raise SecurityError("a name that starts with an underscore")
        Namespace.__init__(args[0], values)

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise SecurityError("a name that starts with an underscore")
        super().__setitem__(name, value)


class Sandbox(ImmutableSandboxedEnvironment):
    """Only plain text and list operations; each is measured."""

    intercepted_binops = frozenset(["*", "+", "-", "**", "%", "//", "/"])

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation])
        self.budget = budget = Budget()
        budget.reset()
        standard = self.filters
        self.filters = {name: _measured(budget, standard[name], name) for name in (*LINEAR_FILTERS, *ENTRY_FILTERS)}
        self.filters |= {
            "tojson": lambda value, *args, **kwargs: budget.passed(_tojson(budget.walked(value), *args, **kwargs)),
            "replace": lambda text, *args, **kwargs: budget.passed(_replace(budget.walked(text), *args, **kwargs)),
            "join": lambda parts, *args, **kwargs: budget.passed(_join(budget.walked(parts), *args, **kwargs)),
            "indent": lambda text, *args, **kwargs: budget.passed(_indent(budget.walked(text), *args, **kwargs)),
            "format": lambda *args, **kwargs: budget.passed(_percent(*budget.walked(args), **budget.walked(kwargs))),
            "luhuo_loop": budget.loop,
            "luhuo_write": budget.write,
            "luhuo_passed": budget.passed,
            "luhuo_checked": budget.checked,
            "luhuo_walked": budget.walked,
            "luhuo_concat": lambda parts: budget.passed(_concat(budget.walked(parts))),
        }
        self.tests |= {name: _walking(budget, self.tests[name]) for name in COMPARING_TESTS}
        self.globals = {
            "raise_exception": lambda message="": _raise(budget.walked(message)),
            "namespace": _Names,
            "range": self._range,
            "dict": _dictionary,
            "strftime_now": self._strftime_now,
            "joiner": self.globals["joiner"],
            "cycler": self.globals["cycler"],
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _meter(super()._parse(source, name, filename))

    def _range(self, *bounds: int) -> range:
        steps = range(*bounds)
        self.budget.step(len(steps) if steps else 0)
        return steps

    def _strftime_now(self, form: str) -> str:
        if len(form) > 1000 or re.search(r"%[-_0^#+EO]*\d", form):
            raise SecurityError("a date format with widths")
        return self.budget.now.strftime(form)

    def wrap_str_format(self, value: Any) -> None:
        """`str.format` is handled in `call`, with every width checked."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        plain = isinstance(obj, (str, list, tuple, dict, int, float))
        return super().is_safe_attribute(obj, attr, value) and (not plain or attr in METHODS)

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        self.budget.step()
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if name in ("index", "count", "changed"):
            self.budget.walked([owner if isinstance(owner, (list, tuple)) else None, *args])
        if isinstance(owner, str) and name in _TEXT_METHODS:
            given = {key: value for key, value in kwargs.items() if key not in ("_loop_vars", "_block_vars")}
            self.budget.walked([args, given])
            return self.budget.passed(_TEXT_METHODS[name](owner, *args, **given))
        return self.budget.passed(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
        if operator == "%" and isinstance(left, str):
            self.budget.walked(right)
            return self.budget.passed(_percent(left, *(right if isinstance(right, tuple) else (right,))))
        if operator == "*" and not numbers:
            _check_repeat(left, right)
        elif operator == "**" and not (numbers and abs(left) <= 1 << 31 and abs(right) <= 64):
            raise SecurityError(f"the operator ** on {type(left).__name__}")
        elif operator == "+" and isinstance(left, (str, list, tuple)) and isinstance(right, (str, list, tuple)):
            _check_size(len(left) + len(right))
        elif not numbers and operator != "+":
            raise SecurityError(f"the operator {operator} on {type(left).__name__}")
        return self.budget.passed(super().call_binop(context, operator, left, right))


def _measured(budget: Budget, function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The filter with its work counted and its result measured; what it would yield later is made at once."""
    first = 1 if getattr(function, "jinja_pass_arg", None) is not None else 0

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        value = args[first] if len(args) > first else None
        sized = isinstance(value, (str, list, tuple, dict, range))
        budget.step(len(value) if sized and name in ENTRY_FILTERS else 1)
        if name not in SHALLOW_FILTERS:
            budget.walked(value)
        numbers = [v for v in (*args[first + 1 :], *kwargs.values()) if isinstance(v, int)]
        if name in PADDING_FILTERS and any(abs(n) > MAX_WIDTH for n in numbers):
            raise SecurityError(f"{name} with a number above {MAX_WIDTH:,}")
        result = function(*args, **kwargs)
        if isinstance(result, Iterable) and not isinstance(result, (str, list, tuple, dict, range, jinja2.Undefined)):
            result = budget.loop(result)
        return budget.passed(result)

    return run


def _walking(budget: Budget, test: Callable[..., bool]) -> Callable[..., bool]:
    """The test, done only on what can be looked through in the time that is left."""

    @wraps(test)
    def run(*args: Any) -> bool:
        budget.walked(args)
        return test(*args)

    return run


def _meter(tree: nodes.Template) -> nodes.Template:
    """Put a counter around every loop and everything that is written, assigned, compared, sliced or joined."""
    if sum(1 for _ in tree.find_all(nodes.Node)) > MAX_NODES:
        raise SecurityError(f"more than {MAX_NODES:,} elements")
    for loop in tree.find_all(nodes.For):
        loop.iter = _filtered(loop.iter, "luhuo_loop")
    for output in tree.find_all(nodes.Output):
        output.nodes = [n if isinstance(n, nodes.TemplateData) else _filtered(n, "luhuo_write") for n in output.nodes]
    for assignment in tree.find_all(nodes.Assign):
        assignment.node = _filtered(assignment.node, "luhuo_checked")
    for condition in tree.find_all((nodes.If, nodes.CondExpr)):
        condition.test = _filtered(condition.test, "luhuo_checked")
    return _Operations().visit(tree)


class _Operations(NodeTransformer):
    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:  # noqa: N802 (the interface of jinja2)
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "luhuo_concat")

    def visit_Compare(self, node: nodes.Compare) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        node.expr = _filtered(node.expr, "luhuo_walked")
        for operand in node.ops:
            operand.expr = _filtered(operand.expr, "luhuo_walked")
        return _filtered(node, "luhuo_checked")

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "luhuo_passed") if isinstance(node.arg, nodes.Slice) else node


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)  # type: ignore[arg-type]


def _check_size(size: int) -> None:
    if size > MAX_SIZE:
        raise SecurityError(f"a value longer than {MAX_SIZE:,}")


def _check_repeat(left: Any, right: Any) -> None:
    text, count = (left, right) if isinstance(right, int) else (right, left)
    if not isinstance(text, (str, list, tuple)) or not isinstance(count, int):
        raise SecurityError(f"the operator * on {type(left).__name__} and {type(right).__name__}")
    _check_size(len(text) * max(count, 0))


def _concat(parts: Iterable[Any], separator: str = "") -> str:
    texts = [str(part) for part in parts]
    _check_size(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def _join(parts: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        parts = [part[attribute] for part in parts]  # type: ignore[index]
    return _concat(parts, str(d))


def _replace(text: Any, old: str, new: str, count: int | None = -1) -> str:
    text, old, new = str(text), str(old), str(new)
    _check_size(len(text) + text.count(old) * len(new))
    return text.replace(old, new, -1 if count is None else count)


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    """As jinja2's filter: lines after the first are moved to the right, blank ones only if asked for."""
    text = str(text)
    if isinstance(width, int) and width > MAX_WIDTH:
        raise SecurityError(f"indent with a number above {MAX_WIDTH:,}")
    margin = width if isinstance(width, str) else " " * width
    lines = text.splitlines() or [""]
    _check_size(len(text) + len(lines) * len(margin))
    moved = [margin + line if line or blank else line for line in lines[1:]]
    return "\n".join([margin + lines[0] if first else lines[0], *moved])


def _percent(form: Any, *values: Any, **named: Any) -> str:
    form = str(form)
    if re.search(r"%[^a-zA-Z%]*(\d{4}|\*)", form):
        raise SecurityError("a format with a large width")
    return form % (named or values)


def _format(form: str, *values: Any, **named: Any) -> str:
    for _, name, spec, _ in string.Formatter().parse(form):
        if (name and not re.fullmatch(r"\w*", name)) or re.search(r"\d{4}|[{}]", spec or ""):
            raise SecurityError("a format with attributes or a large width")
    return form.format(*values, **named)


_TEXT_METHODS: dict[str, Callable[..., str]] = {
    "replace": _replace,
    "format": _format,
    "join": lambda separator, parts: _concat(parts, separator),
}
"""Methods of text whose result can be far longer than what they are given."""


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    if isinstance(indent, int):
        indent = min(indent, 16)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _dictionary(*values: Any, **named: Any) -> dict[Any, Any]:
    return dict(*values, **named)


def _raise(message: object) -> None:
    raise jinja2.TemplateError(str(message)[:500])
