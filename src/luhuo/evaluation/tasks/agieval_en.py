"""AGIEval in English."""

from __future__ import annotations

from luhuo.evaluation.tasks.agieval import ENGLISH, Exams

_TASK = Exams(ENGLISH, single=True)
rows, prepare = _TASK.rows, _TASK.prepare
