"""CSL titles as a task: ROUGE of characters; of jieba's words too where jieba is installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import util
from typing import Any

from luhuo.evaluation.metrics.rouge import rouge
from luhuo.verify.answers import split_reasoning

_SHOWN = ("rouge1", "rouge2", "rougeL")


def reference(document: dict[str, Any]) -> str:
    """The title."""
    return document["title"]


def score(document: dict[str, Any], outputs: Sequence[str]) -> dict[str, float | None]:
    """F of ROUGE-1, -2 and -L; `jieba.` in front: of words."""
    title = split_reasoning(outputs[0])[1]
    by_character = rouge(title, [document["title"]], "characters")
    scores: dict[str, float | None] = {kind: by_character[kind].f1 for kind in _SHOWN}
    if util.find_spec("jieba") is not None:
        by_word = rouge(title, [document["title"]], "jieba")
        scores |= {f"jieba.{kind}": by_word[kind].f1 for kind in _SHOWN}
    return scores
