"""The check of a world item, read strictly and leniently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luhuo.verify import extraction
from luhuo.verify.answers import Match, match_exact, split_reasoning
from luhuo.verify.numerals import numbers
from luhuo.verify.quantities import same
from luhuo.verify.scoring import score


def match(item: Mapping[str, Any], text: str) -> Match:
    """Judge a reply by `item["check"]` after its reasoning was cut off.

    Strictly: `scoring.score`, which is what the evaluation counts. Leniently: an accepted answer, the number or all
    wanted members stand anywhere in what is said; kinds for which that makes no difference have one reading.
    """
    said = split_reasoning(text)[1]
    strict = score(item, said)
    return Match(strict.correct, strict.correct or _found(item["check"], said), strict.parsed)


def _found(check: Mapping[str, Any], said: str) -> bool:
    """Whether the right answer stands somewhere in a reply."""
    if check["kind"] == "exact":
        return match_exact(said, list(check["answers"])).lenient
    if check["kind"] == "number":
        return any(same(found, float(check["value"])) for found in numbers(said))
    if check["kind"] == "set":
        return {extraction.normalise(str(value)) for value in check["values"]} <= set(extraction.items(said))
    return False
