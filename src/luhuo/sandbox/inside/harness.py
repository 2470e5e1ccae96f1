"""The guest's side of function cases: runs the solution and writes the value of each expression to file descriptor 3.

Nothing here is trusted. It knows the expressions and never the values that are expected, and whoever compares them
sits outside: to write the right value, the guest has to know it.
"""

from __future__ import annotations

import json
import os
import sys

ANSWERS = 3


def encoded(value: object, depth: int = 0) -> object:
    """A value as JSON: plain ones as they are, others as {"kind": content}. Raises TypeError for what is no data."""
    if depth > 100:
        raise TypeError("nested too deeply")
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return {"int": hex(value)}
    if isinstance(value, (float, complex)):
        return {type(value).__name__: repr(value)}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, list):
        return [encoded(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {"dict": [[encoded(key, depth + 1), encoded(item, depth + 1)] for key, item in value.items()]}
    for kind in (tuple, set, frozenset):
        if isinstance(value, kind):
            return {kind.__name__: [encoded(item, depth + 1) for item in value]}
    raise TypeError(f"a {type(value).__name__} is no plain data")


def main() -> None:
    """Read the expressions from standard input, run solution.py, answer line by line."""
    expressions = json.loads(sys.stdin.read())
    space: dict[str, object] = {"__name__": "solution", "__builtins__": __builtins__}
    fault = None
    try:
        with open("solution.py", encoding="utf-8") as file:
            exec(compile(file.read(), "solution.py", "exec"), space)
    except BaseException as error:  # also SystemExit: a solution that ends the program has not answered
        fault = error
    for number, expression in expressions:
        answer: dict[str, object] = {"case": number}
        try:
            if fault is not None:
                raise fault
            answer["value"] = encoded(eval(expression, dict(space)))
        except BaseException as error:
            answer["error"] = f"{type(error).__name__}: {error}"[:500]
        sys.stdout.flush()
        os.write(ANSWERS, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
