"""Values that come out of a sandbox: read without trust, and compared outside of it."""

from __future__ import annotations

import ast
import math
import operator
from typing import Any

from luhuo.core.language import tr

TOLERANCE = 1e-6


def decoded(value: Any) -> Any:
    """The plain data that `inside/harness.py` wrote. Raises ValueError or TypeError for anything else."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, list):
        return [decoded(item) for item in value]
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError("no value")
    ((kind, content),) = value.items()
    if kind == "dict":
        return {decoded(key): decoded(item) for key, item in content}
    if kind in ("tuple", "set", "frozenset"):
        return {"tuple": tuple, "set": set, "frozenset": frozenset}[kind](decoded(item) for item in content)
    readers: dict[str, Any] = {
        "int": lambda text: int(text, 16),
        "float": float,
        "complex": complex,
        "bytes": bytes.fromhex,
    }
    if kind not in readers or not isinstance(content, str):
        raise ValueError("no value")
    return readers[kind](content)


def equal(wanted: Any, found: Any) -> bool:
    """Whether a value is the one that was wanted: numbers within a relative 1e-6 (a bool is no number), a tuple as
    good as a list (test sets in JSON have only lists), everything else as Python compares it, through all levels."""
    if isinstance(wanted, bool) or isinstance(found, bool):
        return wanted is found
    if isinstance(wanted, int) and isinstance(found, int):
        return wanted == found
    if isinstance(wanted, (int, float)) and isinstance(found, (int, float)):
        return _close(wanted, found)
    if isinstance(wanted, (list, tuple)) and isinstance(found, (list, tuple)):
        return len(wanted) == len(found) and all(map(equal, wanted, found))
    if isinstance(wanted, dict) and isinstance(found, dict):
        return wanted.keys() == found.keys() and all(equal(item, found[key]) for key, item in wanted.items())
    if isinstance(wanted, (set, frozenset)) and isinstance(found, (set, frozenset)):
        return wanted == found
    return type(wanted) is type(found) and wanted == found


def _close(wanted: float, found: float) -> bool:
    try:
        both_nan = math.isnan(wanted) and math.isnan(found)
        return both_nan or math.isclose(wanted, found, rel_tol=TOLERANCE, abs_tol=1e-9)
    except OverflowError:  # an integer too large for a float
        return wanted == found


def same_text(wanted: str, found: str) -> bool:
    """Whether a program said what was wanted: the same lines without outer space, or the same words where numbers may
    differ by a relative 1e-6 in their decimals."""
    lines = [[line.strip() for line in text.strip().splitlines()] for text in (wanted, found)]
    if lines[0] == lines[1]:
        return True
    words = [text.split() for text in (wanted, found)]
    if [len(line.split()) for line in lines[0]] != [len(line.split()) for line in lines[1]]:
        return False
    return all(a == b or _same_number(a, b) for a, b in zip(*words, strict=True))


def _same_number(wanted: str, found: str) -> bool:
    try:
        return ("." in wanted or "." in found) and _close(float(wanted), float(found))
    except ValueError:
        return False


CONSTRUCTORS: dict[str, Any] = {"set": set, "frozenset": frozenset, "tuple": tuple, "list": list, "dict": dict}
CONSTRUCTORS |= {"float": float, "int": int, "complex": complex, "sorted": sorted}
SIGNS: dict[type, Any] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
SUMS: dict[type, Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def literal(node: ast.expr) -> Any:
    """The value of an expression made of literals, set(…) and its like, and sums of numbers; no name is looked up.

    Raises ValueError for any other expression.
    """
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        items = [literal(item) for item in node.elts]
        return items if isinstance(node, ast.List) else (tuple(items) if isinstance(node, ast.Tuple) else set(items))
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [literal(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(literal, node.values), strict=True))
    if isinstance(node, ast.UnaryOp) and type(node.op) in SIGNS:
        return SIGNS[type(node.op)](literal(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in SUMS:
        left, right = literal(node.left), literal(node.right)
        if isinstance(left, (int, float, complex)) and isinstance(right, (int, float, complex)):
            return SUMS[type(node.op)](left, right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return CONSTRUCTORS.get(node.func.id, _no_constructor)(*map(literal, node.args))
    raise ValueError(ast.unparse(node))


def _no_constructor(*_: Any) -> Any:
    raise ValueError(tr("no constructor of plain data", "不是数据的构造函数"))
