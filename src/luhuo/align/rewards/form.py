"""Rewards that look at a reply's form: layout, language, length, repetition."""

from __future__ import annotations

from luhuo.align.rewards.config import FormatReward, LanguageReward, LengthReward, OverlongReward, RepetitionReward
from luhuo.align.rewards.score import NOT_APPLICABLE, CompletionInfo, Failure, Item, Mark, Scorer, each
from luhuo.core.language import tr
from luhuo.verify import layout as layouts
from luhuo.verify.answers import split_reasoning
from luhuo.verify.scoring import words
from luhuo.verify.script import language_of, share_in


def layout(config: FormatReward) -> Scorer:
    """See `FormatReward`."""

    def score(item: Item, text: str, info: CompletionInfo) -> Mark:
        if config.tags:
            return Mark(float(layouts.in_blocks(text, config.tags, opened=config.opened)))
        return Mark(float(layouts.matches(text, config.pattern)))

    return each(score)


def language(config: LanguageReward) -> Scorer:
    """See `LanguageReward`. A reply without words in any script (a number) is in every language."""

    def score(item: Item, text: str, info: CompletionInfo) -> Mark:
        asked = question(item)
        wanted = language_of(asked) if config.language == "question" else config.language
        if wanted is None:
            return NOT_APPLICABLE
        reasoning, said = split_reasoning(text)
        looked_at = {"all": text, "reasoning": reasoning, "answer": said}[config.part]
        share = share_in(looked_at, wanted, given=asked)
        if share is None:
            share = 1.0 if looked_at.strip() else 0.0
        return Mark(share if config.at_least is None else float(share >= config.at_least), {"share": share})

    return each(score)


def question(item: Item) -> str:
    """What the user asked last; of a row without messages its `prompt`."""
    messages = item.get("messages") or item.get("prompt") or ""
    if isinstance(messages, str):
        return messages
    asked = [str(message.get("content") or "") for message in messages if message.get("role") == "user"]
    return asked[-1] if asked else ""


def length(config: LengthReward) -> Scorer:
    """See `LengthReward`."""

    def score(item: Item, text: str, info: CompletionInfo) -> Mark:
        amount = info.tokens if config.unit == "tokens" else words(text)
        return Mark(layouts.in_band(amount, config.low, config.high))

    return each(score)


def overlong(config: OverlongReward) -> Scorer:
    """See `OverlongReward`."""

    def score(item: Item, text: str, info: CompletionInfo) -> Mark | Failure:
        limit = config.limit or info.max_tokens
        if not limit:
            return Failure(tr("neither `limit` nor the most sampled tokens are known", "limit 与采样上限都未知"))
        return Mark(layouts.overlong(info.tokens, limit, config.margin))

    return each(score)


def repetition(config: RepetitionReward) -> Scorer:
    """See `RepetitionReward`."""

    def score(item: Item, text: str, info: CompletionInfo) -> Mark:
        return Mark(0.0 - layouts.repeated_share(text, config.n))

    return each(score)
