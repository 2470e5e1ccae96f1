"""The process that runs a benchmark's tests. The solution runs in another one, which it can only ask.

So a solution cannot reach the verdict: what comes back is plain data, or an error, or a handle that equals nothing.
The verdict is one line of JSON on standard output; the solution's process has no way to that stream.
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import subprocess
import sys
from typing import Any

import wire  # pyright: ignore[reportMissingImports]


class Crashed(BaseException):
    """The solution raised an error, or ended. No `Exception`, so that no test takes it for one of its own."""


class Solution:
    """The other process."""

    def __init__(self) -> None:
        to_read, to_write = os.pipe()
        back_read, back_write = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-s", "-S", "guest.py", str(to_read), str(back_write)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(to_read, back_write),
        )
        os.close(to_read)
        os.close(back_write)
        self.calls, self.answers = os.fdopen(to_write, "w"), os.fdopen(back_read)
        self.kept: list[Any] = []
        self.started = self.answer()

    def answer(self) -> dict[str, Any]:
        """The next line it says."""
        try:
            line = self.answers.readline()
            said = json.loads(line) if line else None
        except (ValueError, RecursionError) as error:
            raise Crashed("nonsense", str(error)) from None
        if not isinstance(said, dict):
            raise Crashed("ended", "the program ended")
        return said

    def call(self, name: str, given: tuple[object, ...], named: dict[str, object]) -> object:
        """The value of a function of the solution. Raises `Crashed`."""
        try:
            self.calls.write(json.dumps(wire.encoded((name, given, named), self.keep)) + "\n")
            self.calls.flush()
        except OSError:
            raise Crashed("ended", "the program ended") from None
        said = self.answer()
        if "error" in said:
            raise Crashed(*map(str, said["error"]))  # type: ignore[call-overload]
        try:
            return wire.decoded(said["value"], self.kept.__getitem__)
        except (ValueError, TypeError, LookupError, RecursionError, OverflowError, AttributeError) as error:
            raise Crashed("nonsense", str(error)) from None

    def keep(self, value: object) -> int:
        """The number of an object of this process."""
        self.kept.append(value)
        return len(self.kept) - 1


class Remote(wire.Handle):
    """What the solution calls by a name, a function most of all."""

    def __init__(self, solution: Solution, name: str) -> None:
        super().__init__(name)
        self.solution, self.name = solution, name

    def __call__(self, *given: object, **named: object) -> object:
        return self.solution.call(self.name, given, named)


def names(solution: Solution, shadows: list[str]) -> dict[str, Any]:
    """The names of the solution, as the tests see them. Modules of Python's library are imported here.

    A solution may not replace what the tests compare with (`len`, `set`), save for `shadows`.
    """
    modules = solution.started.get("modules", {})
    said = [str(name) for name in solution.started.get("names", ())]
    found: dict[str, Any] = {
        name: Remote(solution, name) for name in said if name in shadows or not hasattr(builtins, name)
    }
    for name, module in modules.items():
        if str(module).partition(".")[0] in sys.stdlib_module_names:
            found[name] = importlib.import_module(module)
    return found


def check(given: dict[str, Any], solution: Solution) -> None:
    """Run the tests. `entry`: they define check(candidate); otherwise they are assertions of their own."""
    own: dict[str, Any] = {"__name__": "tests"}
    try:
        exec(compile(given["prompt"], "prompt.py", "exec"), own)
    except SyntaxError:  # a prompt that ends in a bare header
        exec(compile(given["prompt"] + "\n    pass\n", "prompt.py", "exec"), own)
    entry, theirs = given["entry"], names(solution, given["shadows"])
    if entry and not isinstance(theirs.get(entry), Remote):
        raise Crashed("NameError", entry)
    own = theirs | own | ({entry: theirs[entry]} if entry else {})
    exec(compile(given["tests"], "tests.py", "exec"), own)
    if entry:
        own["check"](own[entry])


def verdict(given: dict[str, Any]) -> dict[str, object]:
    """How it went: {"verdict": "passed" | "wrong" | "crashed" | "compile" | "tests", "found": …}."""
    try:
        solution = Solution()
        if "error" in solution.started:
            kind, message = map(str, solution.started["error"])
            stage = "compile" if solution.started.get("stage") == "compile" else "crashed"
            return {"verdict": stage, "found": f"{kind}: {message}"}
        check(given, solution)
    except AssertionError as error:
        return {"verdict": "wrong", "found": str(error)[:500]}
    except Crashed as error:
        return {"verdict": "crashed", "found": ": ".join(map(str, error.args))}
    except NameError as error:
        return {"verdict": "crashed", "found": f"NameError: {error}"}
    except Exception as error:  # a test that could not make use of the value: not what was wanted
        return {"verdict": "wrong", "found": f"{type(error).__name__}: {error}"[:500]}
    return {"verdict": "passed", "found": ""}


def main() -> None:
    """Read the tests from standard input, write the verdict."""
    sys.path = [path for path in sys.path if os.path.abspath(path) != os.getcwd()]  # the solution can write there
    given = json.loads(sys.stdin.read())
    said = json.dumps(verdict(given))
    sys.stdout.write("\n" + said + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
