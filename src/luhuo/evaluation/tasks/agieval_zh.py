"""AGIEval in Chinese, questions with one right option."""

from __future__ import annotations

from luhuo.evaluation.tasks.agieval import CHINESE, Exams

_TASK = Exams(CHINESE, single=True)
rows, prepare = _TASK.rows, _TASK.prepare
