"""DialogSum as a task: up to three reference summaries, the best of which counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luhuo.evaluation.metrics.rouge import KINDS, rouge
from luhuo.verify.answers import split_reasoning


def prepare(row: dict[str, Any]) -> dict[str, Any]:
    """`summaries` are all references of a row."""
    return row | {"summaries": [row[key] for key in ("summary", "summary1", "summary2", "summary3") if row.get(key)]}


def reference(document: dict[str, Any]) -> str:
    """The first reference."""
    return document["summaries"][0]


def score(document: dict[str, Any], outputs: Sequence[str]) -> dict[str, float | None]:
    """F of each kind of ROUGE."""
    found = rouge(split_reasoning(outputs[0])[1], document["summaries"])
    return {kind: found[kind].f1 for kind in KINDS}
