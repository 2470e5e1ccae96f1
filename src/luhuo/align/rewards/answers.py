"""Rewards that compare a reply with a gold answer: exact, number, check, schema."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from luhuo.align.rewards.config import AnswerReward, CheckReward, ExactReward, NumberReward, ReadReward, SchemaReward
from luhuo.align.rewards.score import NOT_APPLICABLE, CompletionInfo, Failure, Item, Mark, Scorer, each
from luhuo.core.language import tr
from luhuo.verify import checks
from luhuo.verify.answers import Match, match_exact
from luhuo.verify.json_schema import match_schema, validator
from luhuo.verify.quantities import match_number, value_of


def graded(match: Match, config: ReadReward) -> Mark:
    """The mark of a match: the reading that counts, and both beside it."""
    parts = {"strict": float(match.strict), "lenient": float(match.lenient), "parsed": float(match.parsed)}
    return Mark(parts[config.extraction], parts)


def exact(config: ExactReward) -> Scorer:
    """See `ExactReward`."""

    def judge(gold: Any, text: str) -> Match:
        return match_exact(text, [str(answer) for answer in (gold if isinstance(gold, list) else [gold])])

    return _against_gold(config, judge)


def number(config: NumberReward) -> Scorer:
    """See `NumberReward`."""

    def judge(gold: Any, text: str) -> Match:
        wanted = float(gold) if isinstance(gold, (int, float)) else value_of(str(gold))
        if wanted is None or not math.isfinite(wanted):
            raise ValueError(tr(f"the gold answer is no number: {gold!r}", f"标准答案不是数：{gold!r}"))
        return match_number(text, wanted, config.tolerance)

    return _against_gold(config, judge)


def check(config: CheckReward) -> Scorer:
    """See `CheckReward`."""

    def score(item: Item, text: str, info: CompletionInfo) -> Mark | Failure:
        return graded(checks.match(item, text), config) if item.get("check") else NOT_APPLICABLE

    return each(score)


def schema(config: SchemaReward) -> Scorer:
    """See `SchemaReward`."""
    shared = None if config.json_schema is None else validator(config.json_schema)

    def score(item: Item, text: str, info: CompletionInfo) -> Mark | Failure:
        own = item.get(config.key) if shared is None else None
        if shared is None and own is None:
            return NOT_APPLICABLE
        return graded(match_schema(text, shared if own is None else validator(own)), config)

    return each(score)


def _against_gold(config: AnswerReward, judge: Callable[[Any, str], Match]) -> Scorer:
    def score(item: Item, text: str, info: CompletionInfo) -> Mark | Failure:
        gold = item.get(config.key)
        return NOT_APPLICABLE if gold is None else graded(judge(gold, text), config)

    return each(score)
