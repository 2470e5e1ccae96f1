"""Retrieval over DRCD's passages as a task."""

from __future__ import annotations

from luhuo.evaluation.tasks.retrieval import Collection

evaluate = Collection.named("drcd").evaluate
