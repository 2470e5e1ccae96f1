"""Whether one sentence follows from another (RTE), as a probe."""

from __future__ import annotations

from luhuo.evaluation.tasks.probe import Probe

evaluate = Probe(("rte_validation.jsonl*",), ("sentence1", "sentence2")).evaluate
