"""Tatoeba English to Chinese as a task."""

from __future__ import annotations

from luhuo.evaluation.tasks.translation import Pairs

_TASK = Pairs("en", "zh")
rows, prepare, reference, score, corpus = _TASK.rows, _TASK.prepare, _TASK.reference, _TASK.score, _TASK.corpus
