"""The one renderer: a conversation to token ids and loss mask, through the tokenizer's own chat template.

The text is cut where an answer begins before it is encoded: training sees exactly the prompt tokens that generation
starts from. Special tokens come from the template only; what a user typed is text (look_alikes.py). How an answer is
found in the text is told in turns.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from luhuo.dialogue import turns
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.look_alikes import View
from luhuo.dialogue.turns import HistoryRewritten
from luhuo.tokenizer.tokenizer import Tokenizer

__all__ = ["HistoryRewritten", "Rendered", "fit", "render", "render_all"]

CONTEXT_CHARS = 512
"""Text before a cut that is encoded again to see how what follows it is written."""


@dataclass(frozen=True)
class Rendered:
    """Token ids and, for each, 1 if it is a target of training and 0 if it is only context."""

    ids: list[int]
    mask: list[int]
    weights: list[float] = field(default_factory=list)
    """What each token counts in the loss, 0 where the mask is; empty where every target counts 1."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def targets(self) -> int:
        """Number of supervised tokens."""
        return sum(self.mask)


def render(
    conversation: Conversation,
    tokenizer: Tokenizer,
    *,
    generation_prompt: bool = False,
    variables: Mapping[str, Any] | None = None,
) -> Rendered:
    """Token ids and loss mask. With `generation_prompt` the result ends where an answer is to begin.

    Targets are what the assistant writes from the generation prompt on, in turns with `train`, and the token that
    ends the turn. Where a template closes no turn and the model stops by opening the next one (GLM-4), that opening is
    a target, and the last turn gets the tokenizer's end of turn. `variables` go to the template (`tools`,
    `documents`, `enable_thinking`, …).

    Raises `HistoryRewritten` when a turn to be trained does not stand in the whole as it would be generated (not for
    a prompt, which is rendered as the template wants it), and `LuhuoError` when there is no template, it refuses the
    conversation, or a turn to be trained cannot be told from the rest.
    """
    view = View(conversation, tokenizer, variables)
    full, found = turns.find(view, generation_prompt)
    encoder = _Encoder(view)
    ids: list[int] = []
    mask: list[int] = []
    factors: list[tuple[int, float]] = []  # (start, weight) of each target turn
    at, open_turn = 0, False
    count = len(conversation.messages)
    for i, message in enumerate(conversation.messages):
        target = message.is_target and not generation_prompt
        if i not in found:
            if target:
                raise turns.missing(i, i + 1 == count)
            continue
        turn = found[i]
        context, answer = encoder.next(full[at : turn.start]), encoder.next(full[turn.start : turn.end])
        supervised, closed = _targets(answer, tokenizer) if target else (0, True)
        ids += context + answer
        mask += [int(open_turn and k == 0 and t in tokenizer.turn_end_ids) for k, t in enumerate(context)]
        factors += [(len(mask), message.weight)] if target else []
        mask += [1] * supervised + [0] * (len(answer) - supervised)
        at, open_turn = turn.end, not closed
    rest = encoder.next(full[at:])
    ids += rest
    mask += [int(open_turn and k == 0 and t in tokenizer.turn_end_ids) for k, t in enumerate(rest)]
    if open_turn and not rest and view.opens_with(tokenizer.turn_end_ids):
        ids, mask = [*ids, tokenizer.end_of_turn_id], [*mask, 1]
    return Rendered(ids, mask, _weights(mask, factors))


def _weights(mask: list[int], factors: list[tuple[int, float]]) -> list[float]:
    """A weight for each token, none if all are 1. The token that closes a turn counts as the turn does."""
    if all(factor == 1 for _, factor in factors):
        return []
    weights = [0.0] * len(mask)
    ends = [start for start, _ in factors[1:]] + [len(mask)]
    for (start, factor), end in zip(factors, ends, strict=True):
        weights[start:end] = [factor * target for target in mask[start:end]]
    return weights


def render_all(
    conversation: Conversation, tokenizer: Tokenizer, variables: Mapping[str, Any] | None = None
) -> Iterator[Rendered]:
    """The conversation for training: one rendering, or one a target turn if the template rewrites history."""
    try:
        yield render(conversation, tokenizer, variables=variables)
    except HistoryRewritten:
        for part in conversation.one_by_one():
            yield render(part, tokenizer, variables=variables)


def fit(
    conversation: Conversation, tokenizer: Tokenizer, limit: int, *, generation_prompt: bool = False
) -> tuple[Conversation | None, int]:
    """The conversation with whole turns taken from the front until it renders to at most `limit` tokens.

    A system message stays. Returns (what is left or None if not even the last exchange fits, messages taken).
    """
    system = [m for m in conversation.messages[:1] if m.role == "system"]
    rest = conversation.messages[len(system) :]
    starts = [i for i, message in enumerate(rest) if message.role == "user"]
    low, high = 0, len(starts)
    while low < high:  # the rendering only gets shorter when turns go: search the first cut that fits
        middle = (low + high) // 2
        shorter = replace(conversation, messages=(*system, *rest[starts[middle] :]))
        if len(_lenient(shorter, tokenizer, generation_prompt)) <= limit:
            high = middle
        else:
            low = middle + 1
    if low == len(starts):
        return None, len(rest)
    return replace(conversation, messages=(*system, *rest[starts[low] :])), starts[low]


def _lenient(conversation: Conversation, tokenizer: Tokenizer, generation_prompt: bool) -> Rendered:
    """Rendered for its length only: a template that rewrites history is no obstacle."""
    try:
        return render(conversation, tokenizer, generation_prompt=generation_prompt)
    except HistoryRewritten:
        return render(conversation.one_by_one()[-1], tokenizer, generation_prompt=generation_prompt)


def _targets(answer: list[int], tokenizer: Tokenizer) -> tuple[int, bool]:
    """How many ids of an answer are targets, and whether one of them closes the turn.

    Behind the answer stand special tokens and blanks only; of these, all up to the first that ends a turn count, or
    up to the last special one if none is known to.
    """
    start = len(answer)
    while start and (answer[start - 1] in tokenizer.special_ids or not tokenizer.decode([answer[start - 1]]).strip()):
        start -= 1
    for i in range(start, len(answer)):
        if answer[i] in tokenizer.turn_end_ids:
            return i + 1, True
    for i in range(len(answer) - 1, start - 1, -1):
        if answer[i] in tokenizer.special_ids:
            return i + 1, True
    return len(answer), False


def continued(encode: Callable[[str], list[int]], before: str, text: str) -> list[int]:
    """Ids of a text as it is written behind another: encoded together with it, whose tokens are taken off again."""
    if not before:
        return encode(text)
    for anchor in dict.fromkeys((before, "\n", "x")):
        head, whole = encode(anchor), encode(anchor + text)
        if whole[: len(head)] == head:
            return whole[len(head) :]
    return encode(text)


class _Encoder:
    """Encodes the pieces of one text in turn, each as it is written behind the one before.

    SentencePiece puts a blank before a text, which must not come before every piece. So a piece is encoded together
    with some text before it, whose tokens are then taken off again.
    """

    def __init__(self, view: View) -> None:
        self._view, self._tokenizer = view, view.tokenizer
        self._before = ""

    def next(self, text: str) -> list[int]:
        """Ids of the next piece."""
        ids: list[int] = []
        for part, hidden in self._view.parts(text):
            ids += self._continued(part, hidden)
            self._before = "\n" if hidden else (self._before + part)[-CONTEXT_CHARS:]
        return ids

    def _continued(self, text: str, hidden: bool) -> list[int]:
        return continued(lambda piece: self._ids(piece, hidden), self._before, text)

    def _ids(self, text: str, hidden: bool) -> list[int]:
        return self._tokenizer.encode_literally(text) if hidden else self._tokenizer.encode(text, special=True)
