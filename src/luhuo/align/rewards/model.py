"""Scores of a reward model, as one of a stage's rewards."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING

from luhuo.align.rewards.config import ModelReward
from luhuo.align.rewards.score import CompletionInfo, Failure, Item, Mark, Scorer
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

if TYPE_CHECKING:
    from luhuo.align.reward_files import AnyRewardModel
    from luhuo.tokenizer.tokenizer import Tokenizer


def model(config: ModelReward) -> Scorer:
    """See `ModelReward`. A text longer than the model's context is a failure: cut, it would be another text.

    Raises `LuhuoError` where there is no such reward model, or it has no tokenizer.
    """
    from luhuo.align.reward_files import load_reward_model

    judge = load_reward_model(config.model, dtype=config.dtype, device=config.device)
    tokenizer = judge.tokenizer
    if tokenizer is None:
        raise LuhuoError(tr("The reward model has no tokenizer.", "奖励模型没有分词器。"), where=config.model)

    def score(items: Sequence[Item], texts: Sequence[str], infos: Sequence[CompletionInfo]) -> list[Mark | Failure]:
        marks: list[Mark | Failure] = [Failure("")] * len(texts)
        ids: dict[int, array[int]] = {}
        for i, (item, text) in enumerate(zip(items, texts, strict=True)):
            try:
                ids[i] = _ids(item, text, tokenizer, judge.config.max_positions)
            except (LuhuoError, ValueError, TypeError) as error:
                marks[i] = Failure(f"{type(error).__name__}: {error}")
        for group in _groups(ids, config.tokens):
            for i, value in zip(group, _scores(judge, [ids[i] for i in group], tokenizer.pad_id), strict=True):
                marks[i] = Mark(value)
        return marks

    return score


def _ids(item: Item, text: str, tokenizer: Tokenizer, longest: int) -> array[int]:
    """Token ids of the prompt and the completion, rendered as the reward model was trained on."""
    from luhuo.align.reward_data import conversation_text
    from luhuo.dialogue.conversation import Conversation

    asked = item.get("messages") or item.get("prompt") or ""
    before = [{"role": "user", "content": asked}] if isinstance(asked, str) else list(asked)
    ids = conversation_text(Conversation.of([*before, {"role": "assistant", "content": text}]), tokenizer)[0]
    if len(ids) > longest:
        raise ValueError(tr(f"{len(ids)} tokens, the model reads {longest}", f"{len(ids)} 词元，模型最多读 {longest}"))
    return ids


def _groups(ids: dict[int, array[int]], tokens: int) -> list[list[int]]:
    """Texts of similar length together, so that at most `tokens` with padding are scored at once."""
    groups: list[list[int]] = []
    for i in sorted(ids, key=lambda i: -len(ids[i])):
        if groups and (len(groups[-1]) + 1) * len(ids[groups[-1][0]]) <= tokens:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _scores(judge: AnyRewardModel, texts: Sequence[array[int]], pad: int) -> list[float]:
    import torch

    length = max(map(len, texts))
    ids = torch.full((len(texts), length), pad, dtype=torch.long)
    segments = torch.zeros((len(texts), length), dtype=torch.int32)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text, dtype=torch.long)
        segments[row, : len(text)] = 1
    with torch.inference_mode():
        found = judge.scores({"ids": ids.to(judge.device), "segments": segments.to(judge.device)})
    return found[:, 0].float().tolist()
