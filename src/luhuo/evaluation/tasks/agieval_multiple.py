"""AGIEval's questions with several right options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luhuo.evaluation.tasks.agieval import CHINESE, Exams
from luhuo.evaluation.tasks.gaokao_bench import answers

_TASK = Exams(CHINESE, single=False)
rows, prepare = _TASK.rows, _TASK.prepare


def reference(document: dict[str, Any]) -> str:
    """All right letters."""
    return document["label"]


def score(document: dict[str, Any], outputs: Sequence[str]) -> dict[str, float | None]:
    """Whether exactly the right letters were named."""
    found = answers(outputs[0], 1, multiple=True)
    return {"exact": None if found is None else float(found[0] == document["label"])}
