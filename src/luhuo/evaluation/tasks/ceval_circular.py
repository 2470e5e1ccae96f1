"""CircularEval over ceval."""

from __future__ import annotations

from typing import Any

from luhuo.evaluation.tasks import ceval
from luhuo.evaluation.tasks.circular import CHINESE, LETTERS, Circle, item

run = Circle(CHINESE).run


def prepare(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its `options` and the number of the right one."""
    return item(ceval.prepare(row), [row[name] for name in LETTERS], LETTERS.index(row["answer"]))
