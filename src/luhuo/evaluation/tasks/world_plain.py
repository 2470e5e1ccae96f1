"""The world's items as plain text."""

from __future__ import annotations

from typing import Any

from luhuo.evaluation.items import plain_prompt
from luhuo.evaluation.tasks.world import reference, score

__all__ = ["prompt", "reference", "score"]


def prompt(document: dict[str, Any]) -> str:
    """The question, with the answer left open."""
    return plain_prompt(document, [])
