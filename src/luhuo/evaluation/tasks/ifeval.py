"""IFEval as a task: prompts kept whole, and instructions pooled over the set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luhuo.evaluation.ifeval.verdict import instructions, judge
from luhuo.evaluation.metrics.significance import pooled_share


def prepare(row: dict[str, Any]) -> dict[str, Any]:
    """The row, if its instructions can be checked. Raises `LuhuoError` before anything is asked."""
    instructions(row)
    return row


def score(document: dict[str, Any], outputs: Sequence[str]) -> dict[str, float | None]:
    """Whether all instructions of the prompt were kept."""
    verdict = judge(instructions(document), outputs[0])
    return {"prompt_strict": float(all(verdict.strict)), "prompt_loose": float(all(verdict.loose))}


def corpus(documents: Sequence[dict[str, Any]], outputs: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The two numbers by instruction, which are no means of items; intervals are drawn over prompts."""
    pairs = zip(documents, outputs, strict=True)
    verdicts = [judge(instructions(document), replies[0]) for document, replies in pairs]
    counts = [len(verdict.strict) for verdict in verdicts]
    return {
        f"instruction_{name}": pooled_share([sum(getattr(verdict, name)) for verdict in verdicts], counts, seed=0)
        for name in ("strict", "loose")
    }
