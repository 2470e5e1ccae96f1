"""MATH and its like: the answer a reply states, compared as mathematics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luhuo.align.rewards.mathematics import numeric, symbolic
from luhuo.align.rewards.score import Failure
from luhuo.sandbox import Limits
from luhuo.verify.answers import Match, boxed

LIMITS = Limits(seconds=20.0, cpu_seconds=10.0, memory=1 << 30)


def prepare(row: dict[str, Any]) -> dict[str, Any] | None:
    """`answer`: the row's own, or what its solution puts in a box; a row without either is left out."""
    answer = row.get("answer") or boxed(row.get("solution") or "")
    return None if answer is None else row | {"answer": str(answer).replace("$", "").strip()}


def reference(document: dict[str, Any]) -> str:
    """The final answer."""
    return document["answer"]


def score(document: dict[str, Any], outputs: Sequence[str]) -> dict[str, float | None]:
    """`exact`: the stated answer is right; `lenient`: the right one is found anywhere the checker looks.

    Where the checker could not tell in time the score is None.
    """
    matches = [_matched(document["answer"], output) for output in outputs]
    if all(isinstance(match, Failure) for match in matches):
        return {"exact": None, "lenient": None}
    known = [match for match in matches if isinstance(match, Match)]
    return {
        "exact": sum(match.strict for match in known) / len(outputs),
        "lenient": sum(match.lenient for match in known) / len(outputs),
        "unparsed": float(not any(match.parsed for match in known)),
    }


def _matched(gold: str, output: str) -> Match | Failure:
    known = numeric(gold, output)
    return known if known is not None else symbolic([(gold, output)], LIMITS)[0]
