"""The one renderer: a conversation to token ids and loss mask, through the tokenizer's own chat template.

Where an answer begins is found by rendering: the text up to the generation prompt must be a prefix of the whole.
The text is cut there before it is encoded: training sees exactly the prompt tokens that generation starts from.
Special tokens come from the template only. The same characters inside a message are hidden from the template behind
private characters and encoded as plain text: a user cannot end a turn or open another role by typing it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.template import render_text
from luhuo.tokenizer.tokenizer import Tokenizer

PRIVATE_PLANES = range(0xF0000, 0xFF000, 0x1000)
"""Where the characters that stand for special tokens in messages may lie (Unicode private use, plane 15)."""


@dataclass(frozen=True)
class Rendered:
    """Token ids and, for each, 1 if it is a target of training and 0 if it is only context."""

    ids: list[int]
    mask: list[int]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def targets(self) -> int:
        """Number of supervised tokens."""
        return sum(self.mask)


class HistoryRewritten(LuhuoError):
    """The template renders old answers otherwise than fresh ones, so one rendering cannot hold several targets."""

    def __init__(self, number: int) -> None:
        super().__init__(
            tr(
                "The chat template renders an earlier answer differently once the conversation goes on.",
                "对话继续之后，模板会以不同方式渲染先前的回答。",
            ),
            where=tr(f"message {number}", f"第 {number} 条消息"),
            fix=tr(
                "Train one turn at a time (Conversation.one_by_one does it).",
                "每次只训练一轮（Conversation.one_by_one 会拆分）。",
            ),
        )


def render(conversation: Conversation, tokenizer: Tokenizer, *, generation_prompt: bool = False) -> Rendered:
    """Token ids and loss mask. With `generation_prompt` the result ends where an answer is to begin.

    Targets are the content of assistant turns with `train` and the token that ends the turn; headers are not.
    Raises `HistoryRewritten` when a turn to be trained does not stand in the whole as it would be generated (not for
    a prompt, which is rendered as the template wants it), and `LuhuoError` when there is no template or it refuses
    the conversation.
    """
    hidden = _Hidden(conversation, tokenizer)
    full = hidden.text(len(conversation.messages), generation_prompt)
    ids: list[int] = []
    mask: list[int] = []
    at = 0
    for i, message in enumerate(conversation.messages):
        if message.role != "assistant":
            continue
        start = hidden.text(i, True)
        end = hidden.text(i + 1, False)
        if not (full.startswith(end) and end.startswith(start) and at <= len(start)):
            if message.is_target and not generation_prompt:
                raise HistoryRewritten(i + 1)
            continue
        context, answer = hidden.encode(full[at : len(start)]), hidden.encode(full[len(start) : len(end)])
        supervised = _through_last(answer, tokenizer.special_ids) if message.is_target else 0
        ids += context + answer
        mask += [0] * len(context) + [1] * supervised + [0] * (len(answer) - supervised)
        at = len(end)
    rest = hidden.encode(full[at:])
    return Rendered(ids + rest, mask + [0] * len(rest))


def render_all(conversation: Conversation, tokenizer: Tokenizer) -> Iterator[Rendered]:
    """The conversation for training: one rendering, or one a target turn if the template rewrites history."""
    try:
        yield render(conversation, tokenizer)
    except HistoryRewritten:
        for part in conversation.one_by_one():
            yield render(part, tokenizer)


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
        shorter = Conversation((*system, *rest[starts[middle] :]), conversation.meta)
        if len(_lenient(shorter, tokenizer, generation_prompt)) <= limit:
            high = middle
        else:
            low = middle + 1
    if low == len(starts):
        return None, len(rest)
    return Conversation((*system, *rest[starts[low] :]), conversation.meta), starts[low]


def _lenient(conversation: Conversation, tokenizer: Tokenizer, generation_prompt: bool) -> Rendered:
    """Rendered for its length only: a template that rewrites history is no obstacle."""
    try:
        return render(conversation, tokenizer, generation_prompt=generation_prompt)
    except HistoryRewritten:
        return render(conversation.one_by_one()[-1], tokenizer, generation_prompt=generation_prompt)


def _through_last(ids: list[int], special: frozenset[int]) -> int:
    """Number of ids up to and with the last special one; all of them if there is none."""
    return next((i + 1 for i in range(len(ids) - 1, -1, -1) if ids[i] in special), len(ids))


class _Hidden:
    """A conversation whose messages have their special-token look-alikes replaced by private characters."""

    def __init__(self, conversation: Conversation, tokenizer: Tokenizer) -> None:
        if tokenizer.chat_template is None:
            raise LuhuoError(
                tr(
                    "This model has no chat template: it was not made for chat.",
                    "该模型没有对话模板：它不是对话模型。",
                ),
                expected=tr("chat_template in tokenizer_config.json", "tokenizer_config.json 中的 chat_template"),
                fix=tr(
                    "Use a model made for chat, or put a chat_template.jinja into its directory.",
                    "请使用对话模型，或在模型目录中放入 chat_template.jinja。",
                ),
            )
        self._template: str = tokenizer.chat_template
        self._tokenizer = tokenizer
        self._names, pattern = _special_names(tokenizer)
        self._tokens = _template_tokens(tokenizer)
        self._base = _free_plane(conversation, len(self._names))
        index = {name: i for i, name in enumerate(self._names)}
        self._messages = [
            {"role": m.role, "content": pattern.sub(lambda found: chr(self._base + index[found[0]]), m.content)}
            for m in conversation.messages
        ]
        first, last = chr(self._base), chr(self._base + max(len(self._names) - 1, 0))
        self._private = re.compile(f"([{first}-{last}])")

    def text(self, end: int, generation_prompt: bool) -> str:
        """The template's text for the first `end` messages."""
        if end == 0:
            return ""
        return render_text(
            self._template, self._messages[:end], generation_prompt=generation_prompt, tokens=self._tokens
        )

    def encode(self, text: str) -> list[int]:
        """Ids of a piece of the template's text; private characters become the plain text they stand for."""
        ids: list[int] = []
        for i, part in enumerate(self._private.split(text)):
            if i % 2:
                ids += self._tokenizer.encode(self._names[ord(part) - self._base])
            elif part:
                ids += self._tokenizer.encode(part, special=True)
        return ids


@lru_cache(maxsize=16)
def _special_names(tokenizer: Tokenizer) -> tuple[list[str], re.Pattern[str]]:
    names = [tokenizer.decode([i]) for i in sorted(tokenizer.special_ids)]
    names = sorted({name for name in names if name}, key=lambda name: (-len(name), name))
    return names, re.compile("|".join(map(re.escape, names)) or r"(?!)")


@lru_cache(maxsize=16)
def _template_tokens(tokenizer: Tokenizer) -> dict[str, str]:
    ids = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.end_of_turn_id, "pad_token": tokenizer.pad_id}
    return {name: "" if i is None else tokenizer.decode([i]) for name, i in ids.items()}


def _free_plane(conversation: Conversation, count: int) -> int:
    """The first code point of `count` private characters that no message uses."""
    used = {ord(c) >> 12 for m in conversation.messages for c in m.content if ord(c) >= PRIVATE_PLANES[0]}
    for base in PRIVATE_PLANES:
        if not used.intersection(range(base >> 12, ((base + count) >> 12) + 1)):
            return base
    raise LuhuoError(
        tr(
            "A message uses every block of Unicode's private plane 15.",
            "消息占用了 Unicode 第 15 私用平面的所有区段。",
        ),
        found=tr("text that cannot be rendered safely", "无法安全渲染的文本"),
    )
