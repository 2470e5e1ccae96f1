"""The Cranfield collection as a task."""

from __future__ import annotations

from luhuo.evaluation.tasks.retrieval import Collection

evaluate = Collection().evaluate
