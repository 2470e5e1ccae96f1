"""Translation into English as a task."""

from __future__ import annotations

from luhuo.evaluation.tasks.translation import Translation

_TASK = Translation("en")
prepare, reference, score, corpus = _TASK.prepare, _TASK.reference, _TASK.score, _TASK.corpus
