"""Whether two sentences say the same (MRPC), as a probe."""

from __future__ import annotations

from luhuo.evaluation.tasks.probe import Probe

evaluate = Probe(("mrpc_validation.jsonl*",), ("sentence1", "sentence2")).evaluate
