"""The process that runs the solution: it answers calls, line by line, and knows no test."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from wire import decoded, encoded  # pyright: ignore[reportMissingImports]


def main() -> None:
    """Run solution.py, say how that went, then answer calls until there are no more."""
    calls, answers = (os.fdopen(int(number), mode) for number, mode in zip(sys.argv[1:3], "rw"))  # noqa: B905
    space: dict[str, Any] = {"__name__": "solution", "__builtins__": __builtins__}
    kept: list[Any] = []

    def say(answer: object) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    def keep(value: object) -> int:
        kept.append(value)
        return len(kept) - 1

    def owned(key: int | str) -> object:
        return space[key] if isinstance(key, str) else kept[key]

    try:
        with open("solution.py", encoding="utf-8") as file:
            code = compile(file.read(), "solution.py", "exec")
    except BaseException as error:
        say({"stage": "compile", "error": [type(error).__name__, str(error)[:500]]})
        return
    try:
        exec(code, space)
    except BaseException as error:
        say({"stage": "load", "error": [type(error).__name__, str(error)[:500]]})
        return
    modules = {name: part.__name__ for name, part in space.items() if isinstance(part, type(sys))}
    say({"names": [name for name in space if not name.startswith("__")], "modules": modules})
    for line in calls:
        try:
            name, given, named = decoded(json.loads(line), owned)
            say({"value": encoded(space[name](*given, **named), keep)})
        except BaseException as error:  # also SystemExit: a solution that ends the program has not answered
            say({"error": [type(error).__name__, str(error)[:500]]})


if __name__ == "__main__":
    main()
