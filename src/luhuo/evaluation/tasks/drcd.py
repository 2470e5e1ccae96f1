"""DRCD as a task: rows as SQuAD writes them, F1 over the bag of characters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from luhuo.evaluation.metrics.reading import exact_and_f1
from luhuo.evaluation.tasks.squad_layout import questions, said

FILES = {"test": "DRCD_test.json*", "dev": "DRCD_dev.json*", "train": "DRCD_training.json*"}


def rows(folder: Path | None, split: str, seed: int) -> Iterator[dict[str, Any]]:
    """Questions with their passages and accepted answers."""
    yield from questions(folder, FILES.get(split, f"*{split}*.json*"), "drcd", split)


def reference(document: dict[str, Any]) -> str:
    """The first accepted answer."""
    return document["answers"][0]


def score(document: dict[str, Any], outputs: Sequence[str]) -> dict[str, float | None]:
    """Exact match and F1 against the best accepted answer."""
    answer = said(outputs[0])
    exact, f1 = exact_and_f1(answer, document["answers"], "characters")
    return {"f1": f1, "exact": exact, "unparsed": float(not answer)}
