"""Yes-or-no questions about a passage (BoolQ), as a probe."""

from __future__ import annotations

from luhuo.evaluation.tasks.probe import Probe

evaluate = Probe(("boolq_validation.jsonl*",), ("question", "passage"), "answer").evaluate
