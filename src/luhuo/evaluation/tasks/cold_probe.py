"""Offensive Chinese (COLD), as a probe."""

from __future__ import annotations

from luhuo.evaluation.tasks.probe import Probe

evaluate = Probe(("test.csv*",), ("TEXT",), train=("train.csv*",)).evaluate
