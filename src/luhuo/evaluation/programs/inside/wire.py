"""Values between the process that judges and the one that runs the solution: JSON in, plain data out.

Whatever is no plain data stays where it is and travels as a number (a handle), which can be passed back as an
argument and equals nothing.
"""

from __future__ import annotations


class Handle:
    """An object of the other process: by the number under which it is kept there, or by its name."""

    def __init__(self, number: int | str) -> None:
        self.number = number


def encoded(value: object, keep: object, depth: int = 0) -> object:
    """A value as JSON. `keep(object)` gives the number of what is no plain data. Raises TypeError for deep nesting."""
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
    if isinstance(value, Handle):
        return {"own": value.number}
    if isinstance(value, dict):
        return {"dict": [[encoded(part, keep, depth + 1) for part in pair] for pair in value.items()]}
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return {kind.__name__: [encoded(part, keep, depth + 1) for part in value]}
    return {"handle": keep(value)}  # type: ignore[operator]


def decoded(value: object, owned: object) -> object:
    """The value of JSON from `encoded`. `owned(number or name)` gives the object that is kept here.

    Raises ValueError, TypeError or LookupError for anything else.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError("no value")
    ((kind, content),) = value.items()
    if kind == "dict":
        return {decoded(key, owned): decoded(part, owned) for key, part in content}
    kinds = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
    if kind in kinds:
        return kinds[kind](decoded(part, owned) for part in content)
    readers = {"float": float, "complex": complex, "bytes": bytes.fromhex, "handle": Handle, "own": owned}
    return int(content, 16) if kind == "int" else readers[kind](content)  # type: ignore[operator]
