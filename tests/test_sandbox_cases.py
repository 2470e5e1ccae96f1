"""Test cases for untrusted code: what passes, what does not, and that no verdict can be forged."""

from __future__ import annotations

import sys

import pytest

from luhuo import sandbox
from luhuo.core.errors import LuhuoError
from luhuo.sandbox import Call, Limits, Program, read_case
from luhuo.sandbox.values import equal, same_text

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

CALLS = [Call.of("f", 1, wanted=2), Call.of("f", 41, wanted=42)]
LIMITS = Limits(seconds=5, cpu_seconds=5)


def passed(code: str, cases: list[sandbox.Case]) -> list[bool]:
    return [result.passed for result in sandbox.tests(code, cases, limits=LIMITS).results]


def test_right_and_wrong_values_are_told_apart_case_by_case() -> None:
    report = sandbox.tests("def f(x): return 2 * x", CALLS, limits=LIMITS)
    assert [(result.passed, result.status, result.found) for result in report.results] == [
        (True, "ok", "2"),
        (False, "wrong", "82"),
    ]
    assert (report.passed, report.share) == (1, 0.5)


def test_programs_are_judged_by_what_they_say() -> None:
    cases: list[sandbox.Case] = [Program("1 2\n", "3"), Program("2 2\n", "5\n"), Program("x", "")]
    report = sandbox.tests("print(sum(map(int, input().split())))", cases, limits=LIMITS)
    assert [result.status for result in report.results] == ["ok", "wrong", "error"]


def test_a_crash_or_a_passed_limit_costs_its_case_alone() -> None:
    code = """
def f(x):
    if x == 2: import os; os._exit(0)
    if x == 3:
        while True: pass
    if x == 4: raise ValueError('four')
    return x
"""
    cases: list[sandbox.Case] = [Call.of("f", n, wanted=n) for n in range(1, 6)]
    report = sandbox.tests(code, cases, limits=Limits(seconds=1.5))
    assert [result.status for result in report.results] == ["ok", "error", "time", "error", "ok"]
    assert report.results[3].found == "ValueError: four"


@pytest.mark.parametrize(
    "code",
    [
        "import os; os._exit(0)",
        "raise SystemExit(0)",
        "import sys; sys.exit()",
        "class Same:\n    def __eq__(self, other): return True\ndef f(x): return Same()",
        "class Same(int):\n    def __eq__(self, other): return True\ndef f(x): return Same(0)",
        "print('2 passed'); print('OK')\ndef f(x): print('{\"case\": 0, \"value\": true}')",
        'import os\nfor n in range(2): os.write(3, b\'{"case": %d, "value": true, "passed": true}\\n\' % n)',
        'import os\nos.write(3, b\'{"code": 0, "passed": 2}\\n\' * 2); os._exit(0)',
        "import sys\nfor frame in sys._current_frames().values():\n"
        "    while frame: frame.f_locals.clear(); frame = frame.f_back\ndef f(x): return None",
        "import json\njson.dumps = lambda *a, **k: '{}'\ndef f(x): return 0",
        "import builtins\nbuiltins.eval = lambda *a: True\ndef f(x): return 0",
        "import os, threading\nthreading.Timer(0, os._exit, (0,)).start()\ndef f(x):\n    while True: pass",
        "",
        "def f(x:",
    ],
)
def test_no_verdict_can_be_forged(code: str) -> None:
    assert passed(code, [*CALLS, Program("", "right")]) == [False, False, False]


def test_what_is_wanted_is_nowhere_in_the_sandbox() -> None:
    """The guest looks for it in all objects, files, arguments and frames; in an expression it does find it."""
    wanted = "zq123456789012"
    code = """
import gc, os, re, sys
def f(ignored=None):
    seen = [repr(sys.argv), repr(dict(os.environ)), *(open(name).read() for name in os.listdir('.'))]
    frame = sys._getframe()
    while frame: seen.append(repr(frame.f_locals)); frame = frame.f_back
    seen += [repr(each) for each in gc.get_objects() if type(each) in (list, dict, tuple)]
    found = re.search('zq[0-9]{12}', ' '.join(seen))
    return found and found[0]
"""
    cases: list[sandbox.Case] = [Call("f()", wanted)]
    assert sandbox.tests(code, cases, limits=Limits(seconds=60)).results[0].found == "None"
    cases = [Call(f"f({wanted!r})", wanted)]
    assert sandbox.tests(code, cases, limits=Limits(seconds=60)).results[0].passed


@pytest.mark.parametrize(
    ("text", "expression", "wanted"),
    [
        ("assert f(1, [2]) == (3, 4)", "f(1, [2])", (3, 4)),
        ("assert set(f((3, 4))) == set((4, 3))", "set(f((3, 4)))", {3, 4}),
        ("assert f(2) == -1.5 + 2", "f(2)", 0.5),
        ("assert is_prime(7)", "is_prime(7)", True),
        ("assert not is_prime(8)", "is_prime(8)", False),
        ("assert f('a') == {'x': [None, True]}", "f('a')", {"x": [None, True]}),
    ],
)
def test_assertions_become_cases_that_are_judged_outside(text: str, expression: str, wanted: object) -> None:
    assert Call.from_assert(text) == Call(expression, wanted)


@pytest.mark.parametrize(
    "text",
    [
        "assert f(1) == g(2)",
        "assert math.isclose(f(1), 2.0)",
        "assert (f(1) == 2) == True",
        "assert f(1) > 3",
        "assert all(f(n) for n in range(3))",
        "print(1)",
        "assert f(1) ==",
        "assert f(1) == open('x')",
    ],
)
def test_assertions_that_the_guest_would_judge_itself_are_refused(text: str) -> None:
    with pytest.raises(LuhuoError, match="cannot be made a test case"):
        Call.from_assert(text)


def test_rows_of_data_become_cases_and_others_are_refused() -> None:
    assert read_case({"call": "f", "arguments": [1, "a"], "wanted": None}) == Call("f(1, 'a')", None)
    assert read_case({"stdin": "1", "wanted": "2"}) == Program("1", "2")
    assert read_case({"expression": "f(1)", "wanted": 2}) == Call("f(1)", 2)
    assert read_case({"assert": "assert f(1) == 2"}) == Call("f(1)", 2)
    with pytest.raises(LuhuoError, match="no test case"):
        read_case({"input": "1", "output": "2"})


@pytest.mark.parametrize(
    ("wanted", "found", "same"),
    [
        ([1, 2], (1, 2), True),
        ([1, [2.0]], [1, [2.0000000001]], True),
        (0.1 + 0.2, 0.3, True),
        (1, True, False),
        (True, 1, False),
        (1, 1.0, True),
        ({1, 2}, {2, 1}, True),
        ({1, 2}, [1, 2], False),
        ({"a": [1]}, {"a": (1,)}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ("1", 1, False),
        (None, 0, False),
        (float("nan"), float("nan"), True),
        (10**400, 10**400, True),
        (10**400, 10**400 + 1, False),
        (10**17, 10**17 + 1, False),
        (b"a", "a", False),
    ],
)
def test_values_are_compared_as_test_sets_mean_it(wanted: object, found: object, same: bool) -> None:
    assert equal(wanted, found) is same


@pytest.mark.parametrize(
    ("wanted", "found", "same"),
    [
        ("1 2\n3", "1 2 \n3\n\n", True),
        ("1.0", "1.00000001", True),
        ("1", "1.0", True),
        ("1 2", "1\n2", False),
        ("12", "13", False),
        ("100000000", "100000001", False),
        ("Yes", "yes", False),
    ],
)
def test_outputs_are_compared_line_by_line_and_decimals_with_tolerance(wanted: str, found: str, same: bool) -> None:
    assert same_text(wanted, found) is same


def test_every_kind_of_plain_data_comes_back_as_it_is() -> None:
    value = [None, True, -(2**70), 1.5, float("inf"), 2 + 1j, "文", b"\x00", (1, [2]), {3}, {4: {"a": (5,)}}]
    report = sandbox.tests(f"inf = float('inf')\ndef f(): return {value!r}", [Call("f()", value)], limits=LIMITS)
    assert report.share == 1.0, report


def test_no_cases_are_refused() -> None:
    with pytest.raises(LuhuoError, match="no test cases"):
        sandbox.tests("", [])
