"""Where the assistant's turns lie in the text that a template makes of a conversation.

Three ways, the first that applies: the template marks them itself (`{% generation %}`); the text up to the generation
prompt is a prefix of the text with the answer; or the answer is found by rendering something else in its place and
looking where the two texts differ. A turn that none of them finds for sure is an error, never a guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.dialogue.look_alikes import View
from luhuo.dialogue.template import render_text
from luhuo.tokenizer.tokenizer import Tokenizer

STANDINS = ("\ue0a0", "\ue0a1")
"""Rendered in place of an answer: no template strips, splits or looks for them."""


@dataclass(frozen=True)
class Turn:
    """Characters `start` to `end` of the whole text are what the assistant wrote as message `number`."""

    number: int
    start: int
    end: int


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


def find(view: View, generation_prompt: bool) -> tuple[str, dict[int, Turn]]:
    """The whole text, and the assistant's turns in it by message number; those that cannot be found are left out."""
    count = len(view.messages)
    full, marks = view.rendered(view.messages, generation_prompt)
    answers = [i for i, message in enumerate(view.messages) if message["role"] == "assistant"]
    if marks:
        spans = marks if len(marks) == len(answers) else []
        return full, {i: Turn(i, *span) for i, span in zip(answers, spans, strict=False)}
    if mixes_turns(view.tokenizer):
        return full, {}
    found: dict[int, Turn] = {}
    at = 0
    for i in answers:
        whole = full if i + 1 == count and not generation_prompt else None
        turn = _turn(view, full, i, whole)
        if turn is not None and at <= turn.start <= turn.end:
            found[i], at = turn, turn.end
    return full, found


def missing(number: int, last: bool) -> LuhuoError:
    """The error for a turn that was to be learned and could not be found."""
    if not last:
        return HistoryRewritten(number + 1)
    return LuhuoError(
        tr(
            "The assistant's turn cannot be told from the rest of what the chat template writes.",
            "无法在对话模板的输出中确定助手的那一轮。",
        ),
        expected=tr(
            "a template that writes the answer after the generation prompt, or marks it with {% generation %}",
            "模板把回答写在生成提示之后，或用 {% generation %} 标出",
        ),
        where=tr(f"message {number + 1}", f"第 {number + 1} 条消息"),
        fix=tr(
            "Give the model directory a chat_template.jinja that marks the assistant's turns.",
            "请在模型目录中放入标出助手轮次的 chat_template.jinja。",
        ),
    )


def _turn(view: View, full: str, number: int, whole: str | None) -> Turn | None:
    """One turn, if it stands in the whole text as it would be generated."""
    prompt = view.text(number, True)
    fresh = view.text(number + 1, False) if whole is None else whole
    place = None
    start: int | None = len(prompt)
    if not fresh.startswith(prompt):
        place = _answer(view, number, fresh)
        start = place[0] if place else None
    if start is None:
        return None
    if full.startswith(fresh):
        return Turn(number, start, len(fresh))
    place = place or _answer(view, number, fresh)
    if place is None:
        return None
    end = _after_closing(view.tokenizer, fresh, place[1], full)
    return Turn(number, start, end) if start <= end and full.startswith(fresh[:end]) else None


def _answer(view: View, number: int, fresh: str) -> tuple[int, int] | None:
    """Where the template puts the content of the last of these messages: found by putting stand-ins there."""
    heads, tails = set(), set()
    for standin in STANDINS:
        changed = [*view.messages[:number], {**view.messages[number], "content": standin}]
        text = view.rendered(changed, False)[0]
        head, found, tail = text.partition(standin)
        if not found or standin in tail:
            return None
        heads.add(head)
        tails.add(tail)
    if len(heads) > 1 or len(tails) > 1:
        return None
    head, tail = heads.pop(), tails.pop()
    end = len(fresh) - len(tail)
    if not (fresh.startswith(head) and fresh.endswith(tail) and len(head) <= end):
        return None
    content = view.messages[number].get("content")
    if isinstance(content, str) and content.strip() and not fresh[len(head) : end].strip():
        return None  # the content is lost: what stands here is not the answer
    return len(head), end


def _after_closing(tokenizer: Tokenizer, text: str, at: int, full: str) -> int:
    """The place behind the tokens that close the turn, as far as both texts agree; `at` without any.

    They are the first special tokens after the answer, up to the one that is known to end turns.
    """
    end = at
    for found in _special(tokenizer).finditer(text, at):
        if (end > at and text[end : found.start()].strip()) or not full.startswith(text[: found.end()]):
            break
        end = found.end()
        if tokenizer.token_id(found[0]) in tokenizer.turn_end_ids:
            break
    return end


@lru_cache(maxsize=16)
def _special(tokenizer: Tokenizer) -> re.Pattern[str]:
    names = sorted((tokenizer.added_tokens[i] for i in tokenizer.special_ids), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, filter(None, names))) or r"(?!)")


@lru_cache(maxsize=16)
def mixes_turns(tokenizer: Tokenizer) -> bool:
    """Whether the template writes the user's text only once there is an answer: no prompt can then be cut off."""
    user, assistant = STANDINS
    asked = [{"role": "user", "content": user}]
    tokens = tokenizer.template_tokens
    try:
        prompt = render_text(tokenizer.chat_template or "", asked, generation_prompt=True, tokens=tokens)
        answered = [*asked, {"role": "assistant", "content": assistant}]
        whole = render_text(tokenizer.chat_template or "", answered, tokens=tokens)
    except LuhuoError:
        return False  # it wants more than a question and an answer: the conversation itself will tell
    return user in whole and user not in prompt
