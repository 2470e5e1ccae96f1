"""CircularEval over mmlu."""

from __future__ import annotations

from typing import Any

from luhuo.evaluation.tasks import mmlu
from luhuo.evaluation.tasks.circular import ENGLISH, Circle, item

run = Circle(ENGLISH).run


def prepare(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its `options` and the number of the right one."""
    return item(mmlu.prepare(row), row["choices"], int(row["answer"]))
