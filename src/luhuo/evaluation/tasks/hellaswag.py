"""HellaSwag's text as its authors' model read it: marks of the WikiHow half are taken out."""

from __future__ import annotations

import re
from typing import Any


def _clean(text: str) -> str:
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")


def prepare(row: dict[str, Any]) -> dict[str, Any]:
    """`query` (activity and context) and `continuations`, the cleaned endings."""
    query = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
    return row | {"query": _clean(query), "continuations": [_clean(ending) for ending in row["endings"]]}
