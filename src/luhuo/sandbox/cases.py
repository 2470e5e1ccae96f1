"""Testing untrusted code: expressions with a wanted value, and programs with a wanted output.

The verdict is made outside. What is wanted never enters the sandbox, and nothing that a program prints, writes or
exits with is a verdict: it can only give a value, which is right or is not. So neither os._exit(0), nor text that
looks like a test report, nor an object that equals everything passes a case.
"""

from __future__ import annotations

import ast
import builtins
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.sandbox import values
from luhuo.sandbox.limits import Limits, Outcome, Status
from luhuo.sandbox.runner import launch, outcome, request, run

SOLUTION = "solution.py"
_HARNESS = Path(__file__).parent / "inside" / "harness.py"


@dataclass(frozen=True)
class Call:
    """An expression that is evaluated after the code, and the value it should have."""

    expression: str
    wanted: Any

    @classmethod
    def of(cls, function: str, *arguments: Any, wanted: Any) -> Call:
        """A call of a function with plain data."""
        return cls(f"{function}({', '.join(map(repr, arguments))})", wanted)

    @classmethod
    def from_assert(cls, text: str) -> Call:
        """The case of an `assert EXPRESSION == LITERAL`, `assert function(…)` or `assert not function(…)`.

        An assertion cannot be left to the guest, which could make anything true. Raises `LuhuoError` for other forms.
        """
        try:
            (statement,) = ast.parse(text.strip()).body
            if not isinstance(statement, ast.Assert):
                raise ValueError(text)
            return cls(*_sides(statement.test))
        except (SyntaxError, ValueError, TypeError) as error:
            raise LuhuoError(
                tr("This assertion cannot be made a test case.", "无法把这条断言变成测试用例。"),
                expected="assert EXPRESSION == LITERAL",
                found=text.strip()[:200],
                where=str(error)[:200],
            ) from None


@dataclass(frozen=True)
class Program:
    """What a program reads from its standard input, and what it should say."""

    stdin: str
    wanted: str


Case = Call | Program


@dataclass(frozen=True)
class Result:
    """How a case went. `found`: the value (or text) that came out, or why none did; `value`: that of a call."""

    passed: bool
    status: Status | Literal["wrong"]
    found: str
    value: Any = None


@dataclass(frozen=True)
class Report:
    """How all cases went, in their order."""

    results: tuple[Result, ...]
    missing: tuple[str, ...] = ()

    @property
    def passed(self) -> int:
        """Cases passed."""
        return sum(result.passed for result in self.results)

    @property
    def share(self) -> float:
        """The share of cases passed, 0 to 1."""
        return self.passed / len(self.results)


def read_case(row: Mapping[str, Any]) -> Case:
    """A case from a data row: {"assert": "…"}, {"call": "f", "arguments": […], "wanted": …}, {"expression": "f(1)",
    "wanted": …} or {"stdin": "…", "wanted": "…"}. Raises `LuhuoError` for other rows."""
    keys = set(row)
    if keys == {"assert"}:
        return Call.from_assert(str(row["assert"]))
    if keys == {"call", "arguments", "wanted"}:
        return Call.of(str(row["call"]), *row["arguments"], wanted=row["wanted"])
    if keys == {"expression", "wanted"}:
        return Call(str(row["expression"]), row["wanted"])
    if keys == {"stdin", "wanted"}:
        return Program(str(row["stdin"]), str(row["wanted"]))
    raise LuhuoError(
        tr("This row is no test case.", "这一行不是测试用例。"),
        expected="assert | call, arguments, wanted | expression, wanted | stdin, wanted",
        found=", ".join(map(str, row)),
    )


def tests(
    code: str,
    cases: Sequence[Case],
    *,
    files: Mapping[str, str | bytes] | None = None,
    limits: Limits | None = None,
    packages: bool = False,
    weak: bool = False,
) -> Report:
    """Try untrusted code on cases. The limits hold for each case; a crash or a passed limit costs that case alone.

    Raises `LuhuoError` where there are no cases or this machine has no sandbox.
    """
    if not cases:
        raise LuhuoError(tr("There are no test cases.", "没有测试用例。"))
    options: dict[str, Any] = {"files": files, "limits": limits or Limits(), "packages": packages, "weak": weak}
    results: dict[int, Result] = {}
    missing: tuple[str, ...] = ()
    for number, case in enumerate(cases):
        if isinstance(case, Program):
            done = run(code, stdin=case.stdin, **options)
            results[number], missing = _judged_text(case, done), done.missing
    waiting = [number for number, case in enumerate(cases) if isinstance(case, Call)]
    while waiting:
        found, missing = _calls(code, cases, waiting, options)
        results |= found
        waiting = waiting[len(found) :]
    return Report(tuple(results[number] for number in range(len(cases))), missing)


def _judged_text(case: Program, done: Outcome) -> Result:
    if not done.ok:
        return Result(False, done.status, _complaint(done))
    passed = values.same_text(case.wanted, done.stdout)
    return Result(passed, "ok" if passed else "wrong", done.stdout[:500])


def _complaint(done: Outcome) -> str:
    return done.stderr.strip().rpartition("\n")[2][:500] or f"{done.status} {done.exit_code or ''}".strip()


def _calls(
    code: str, cases: Sequence[Case], waiting: Sequence[int], options: dict[str, Any]
) -> tuple[dict[int, Result], tuple[str, ...]]:
    """Results of the waiting calls from one process, up to and with the one in which it ended: at least one."""
    asked = [(number, case.expression) for number in waiting if isinstance(case := cases[number], Call)]
    cpu = options["limits"].cpu_seconds * len(asked)  # the kernel counts for the process, not for an answer
    given = {
        **options,
        "files": {**(options["files"] or {}), SOLUTION: code},
        "limits": options["limits"].model_copy(update={"cpu_seconds": cpu}),
    }
    harness = _HARNESS.read_text(encoding="utf-8")
    done = outcome(launch(request(harness, stdin=json.dumps(asked), answers=len(asked), **given)))
    found: dict[int, Result] = {}
    for (number, _), line in zip(asked, done.answers.splitlines(), strict=False):
        result = _judged_value(cases[number], number, line)
        if result is None:
            break
        found[number] = result
    if len(found) < len(asked):  # it ended here, or lost the thread
        why = tr("it ended without an answer", "程序结束而没有给出答案") if done.ok else _complaint(done)
        found[waiting[len(found)]] = Result(False, "error" if done.ok else done.status, why)
    return found, done.missing


def _judged_value(case: Case, number: int, line: str) -> Result | None:
    """The result of one line that the guest wrote, or None where it is no answer to this case."""
    try:
        answer = json.loads(line)
        if answer["case"] != number:
            return None
        if "error" in answer:
            return Result(False, "error", str(answer["error"])[:500])
        value = values.decoded(answer["value"])
        passed = values.equal(case.wanted, value)
        return Result(passed, "ok" if passed else "wrong", repr(value)[:500], value)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def _sides(test: ast.expr) -> tuple[str, Any]:
    """The expression and the wanted value of an assertion's test. Raises ValueError where the guest itself would
    compare: a comparison or a library's predicate says True of anything the guest wants it to."""
    wanted: Any = True
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], (ast.Eq, ast.Is)):
        test, wanted = test.left, values.literal(test.comparators[0])
    elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test, wanted = test.operand, False
    own_call = isinstance(test, ast.Call) and isinstance(test.func, ast.Name) and not hasattr(builtins, test.func.id)
    if isinstance(wanted, bool) and not own_call:
        raise ValueError(ast.unparse(test))
    return ast.unparse(test), wanted
