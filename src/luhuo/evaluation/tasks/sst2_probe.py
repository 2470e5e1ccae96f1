"""Sentiment of film reviews (SST-2), as a probe."""

from __future__ import annotations

from luhuo.evaluation.tasks.probe import Probe

evaluate = Probe(("sst2_validation.jsonl*",), ("sentence",)).evaluate
