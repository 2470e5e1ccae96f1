"""Programs on the tests of a benchmark: what passes, how failures are told apart, and what cannot be forged."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from luhuo import sandbox
from luhuo.core.errors import LuhuoError
from luhuo.evaluation.metrics.code import pass_at
from luhuo.evaluation.programs import trial
from luhuo.evaluation.programs.trial import Verdict, attempt, tally
from luhuo.evaluation.tasks import catalogue
from luhuo.evaluation.tasks.documents import documents

HEADER = 'def add(a, b):\n    """The sum."""\n'
CHECK = "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate([1], [2]) == [1, 2]\n"


def kind(body: str, tests: str = CHECK, entry: str = "add", **more: Any) -> str:
    return attempt(HEADER + body, tests, entry=entry, prompt=HEADER, **more).kind


@pytest.fixture(scope="module", autouse=True)
def _a_machine_that_holds_code() -> None:
    if not sandbox.protections().enough:
        pytest.skip("this machine cannot hold untrusted code")


def test_a_right_program_passes() -> None:
    assert attempt(HEADER + "    return a + b\n", CHECK, entry="add", prompt=HEADER) == Verdict("passed", "")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("    return a * b\n", "wrong"),
        ("    pass\n", "wrong"),
        ("    return (a + b for _ in 'x')\n", "wrong"),
        ("    return a + undefined\n", "crashed"),
        ("    return input()\n", "crashed"),
        ("    import os; os._exit(0)\n", "crashed"),
        ("    raise SystemExit(0)\n", "crashed"),
        ("    return a +\n", "not_compiled"),
        ("return 3\n", "not_compiled"),
        ("    return 'x' * 10**11\n", "over_limit"),
    ],
)
def test_failures_are_told_apart(body: str, expected: str) -> None:
    assert kind(body) == expected


def test_a_program_that_does_not_end_is_timed_out() -> None:
    limits = trial.LIMITS.model_copy(update={"seconds": 2.0})
    assert kind("    import time\n    time.sleep(60)\n", limits=limits) == "timed_out"
    assert kind("    while True: pass\n", limits=limits) == "timed_out"


@pytest.mark.parametrize(
    "body",
    [
        "    class Always:\n        def __eq__(self, other): return True\n    return Always()\n",
        '    print(\'{"verdict": "passed", "found": ""}\', flush=True); import os; os._exit(0)\n',
        '    import os\n    os.write(1, b\'{"verdict": "passed", "found": ""}\')\n    os._exit(0)\n',
        "    import os, signal\n    os.kill(os.getppid(), signal.SIGKILL)\n",
        "    open('json.py', 'w').write('raise SystemExit(0)')\n    return 0\n",
        "    import builtins\n    builtins.AssertionError = KeyError\n    return 0\n",
    ],
)
def test_a_solution_cannot_make_itself_pass(body: str) -> None:
    assert kind(body) in ("wrong", "crashed")


def test_a_solution_cannot_replace_what_the_tests_compare_with() -> None:
    tests = "assert set(f()) == {1, 2}"
    forged = "def f(): return []\ndef set(x): return {1, 2} if not x else x\n"
    assert attempt(forged, tests).kind == "wrong"
    assert attempt("def sum(a, b): return a + b\n", "assert sum(1, 2) == 3", shadows=["sum"]).passed


def test_tests_may_use_the_helpers_of_the_prompt_and_those_of_the_solution() -> None:
    prompt = "def double(x):\n    return 2 * x\n\n\ndef half(x):\n"
    tests = "def check(candidate):\n    assert all(candidate(double(n)) == n for n in range(5))\n"
    assert attempt(prompt + "    return x / 2\n", tests, entry="half", prompt=prompt).passed
    pairs = "class Pair:\n    def __init__(self, a): self.a = a\ndef largest(pairs): return max(p.a for p in pairs)\n"
    assert attempt(pairs, "assert largest([Pair(3), Pair(5)]) == 5").passed
    setup = "root = Pair(7)\n"
    assert attempt(pairs + setup, "assert largest([root]) == 7").passed
    assert attempt("import math\ndef third(x): return x / 3\n", "assert math.isclose(third(1), 0.3333333333)").passed


def test_values_travel_as_they_are() -> None:
    values = [1, True, None, "炉", 2.5, (1, 2), [1, (2,)], {1: {2, 3}}, b"x", 10**40, -0.0, 1 + 2j, frozenset({1})]
    tests = (
        f"for value in {values!r}:\n    found = same(value)\n    assert (found, type(found)) == (value, type(value))"
    )
    assert attempt("def same(x): return x\n", tests) == Verdict("passed", "")


def test_where_code_cannot_be_held_it_is_refused_unless_the_user_insists(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = sandbox.Protections(("network",), "not allowed")
    monkeypatch.setattr(sandbox, "protections", lambda: lacking)
    trial.ready.cache_clear()
    try:
        with pytest.raises(LuhuoError, match=r"untrusted code|不可信") as caught:
            attempt(HEADER + "    return a + b\n", CHECK, entry="add")
        assert "network" in str(caught.value)
        assert attempt(HEADER + "    return a + b\n", CHECK, entry="add", prompt=HEADER, weak=True).passed
    finally:
        trial.ready.cache_clear()


def data(name: str) -> Path:
    file = Path(os.environ.get("LUHUO_TEST_DATA", "")) / name
    if not file.is_file():
        pytest.skip(f"LUHUO_TEST_DATA names no folder with {name}")
    return file


def humaneval(count: int) -> tuple[list[Verdict], list[Verdict]]:
    """Verdicts of the canonical solutions and of empty bodies."""
    lines = data("humaneval/HumanEval.jsonl").read_text(encoding="utf-8").splitlines()
    problems = [json.loads(line) for line in lines][:count]

    def tried(problem: dict[str, str], body: str) -> Verdict:
        prompt, entry = problem["prompt"], problem["entry_point"]
        return attempt(prompt + body, problem["test"], entry=entry, prompt=prompt)

    return [tried(one, one["canonical_solution"]) for one in problems], [tried(one, "    pass\n") for one in problems]


def test_canonical_solutions_of_humaneval_pass_and_empty_bodies_do_not() -> None:
    canonical, empty = humaneval(4)
    assert tally(canonical)["passed"] == 4
    assert tally(empty) == {**dict.fromkeys(trial.KINDS, 0), "wrong": 4}


@pytest.mark.slow
def test_all_canonical_solutions_of_humaneval_pass_and_no_empty_body_does() -> None:
    canonical, empty = humaneval(1000)
    assert (len(canonical), tally(canonical)["passed"], tally(empty)["passed"]) == (123, 123, 0)


@pytest.mark.slow
def test_all_solutions_of_mbpps_test_split_pass() -> None:
    task = catalogue.task("mbpp")
    found = documents(task, data("mbpp/mbpp.jsonl").parent, limit=None, seed=0, shots=0)
    score = task.functions.find("score")
    assert score is not None
    scores = [score(document.fields, [document.fields["code"]]) for document in found]
    failed = [document.id for document, one in zip(found, scores, strict=True) if one["pass@1"] != 1]
    assert (len(found), failed) == (500, [])


def test_the_example_of_human_eval_gives_its_published_number() -> None:
    problem = json.loads(data("humaneval/example_problem.jsonl").read_text(encoding="utf-8"))
    samples = data("humaneval/example_samples.jsonl").read_text(encoding="utf-8").splitlines()
    limits = trial.LIMITS.model_copy(update={"seconds": 2.0})
    verdicts = [
        attempt(problem["prompt"] + json.loads(line)["completion"], problem["test"], entry="return1",
                prompt=problem["prompt"], limits=limits)
        for line in samples
    ]  # fmt: skip
    assert [verdict.kind for verdict in verdicts] == ["crashed", "timed_out", "crashed", "passed", "passed", "passed"]
    assert pass_at([(6, sum(verdict.passed for verdict in verdicts))]) == {1: 0.4999999999999999}
