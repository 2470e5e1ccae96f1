"""CMRC 2018 as a task: rows as SQuAD writes them, F1 over the longest contiguous common part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from luhuo.evaluation.metrics.reading import exact_and_f1
from luhuo.evaluation.tasks.drcd import reference
from luhuo.evaluation.tasks.squad_layout import questions, said

__all__ = ["reference", "rows", "score"]


def rows(folder: Path | None, split: str, seed: int) -> Iterator[dict[str, Any]]:
    """Questions with their passages and accepted answers."""
    yield from questions(folder, f"cmrc2018_{split}.json*", "cmrc", split)


def score(document: dict[str, Any], outputs: Sequence[str]) -> dict[str, float | None]:
    """Exact match and F1 against the best accepted answer."""
    answer = said(outputs[0])
    exact, f1 = exact_and_f1(answer, document["answers"], "cmrc")
    return {"f1": f1, "exact": exact, "unparsed": float(not answer)}
