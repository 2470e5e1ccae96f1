"""CircularEval over cmmlu."""

from __future__ import annotations

from typing import Any

from luhuo.evaluation.tasks import cmmlu
from luhuo.evaluation.tasks.circular import CHINESE, LETTERS, Circle, item

run = Circle(CHINESE).run


def prepare(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its `options` and the number of the right one."""
    return item(cmmlu.prepare(row), [row[name] for name in LETTERS], LETTERS.index(row["answer"]))
