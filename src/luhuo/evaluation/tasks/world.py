"""The world's items as a task: the conversation as it is, the item's own check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luhuo.verify.answers import split_reasoning
from luhuo.verify.scoring import score as checked


def prompt(document: dict[str, Any]) -> list[dict[str, str]]:
    """The messages up to the user's question."""
    return [{"role": message["role"], "content": message["content"]} for message in document["messages"]]


def reference(document: dict[str, Any]) -> str:
    """The right answer."""
    return document["answer"]


def score(document: dict[str, Any], outputs: Sequence[str]) -> dict[str, float | None]:
    """The share of replies that pass the item's check."""
    results = [checked(document, split_reasoning(output)[1]) for output in outputs]
    share = sum(result.correct for result in results) / len(results)
    return {"accuracy": share, "unparsed": float(not any(result.parsed for result in results))}
