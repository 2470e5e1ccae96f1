"""A conversation as a template may see it: what a user typed can neither end a turn nor open a role.

Characters in a message that look like a special token are hidden from the template and the tokenizer behind private
characters, and encoded as plain text afterwards. So are tokens that are not marked special but that the template
writes itself, such as `<｜User｜>`; an assistant's own message keeps those, it may hold its reasoning between them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.sandbox import clock
from luhuo.dialogue.template import literals, render_marked
from luhuo.tokenizer.tokenizer import Tokenizer

PRIVATE_PLANES = range(0xF0000, 0xFF000, 0x1000)
"""Where the characters that stand for special tokens in messages may lie (Unicode private use, plane 15)."""
REASONING = ("<think>", "</think>", "[THINK]", "[/THINK]")
"""Tokens that an assistant's message may hold and templates look for, special or not."""


class View:
    """A conversation, its look-alikes hidden, and the template that renders it. Raises `LuhuoError` without one."""

    def __init__(
        self, conversation: Conversation, tokenizer: Tokenizer, variables: Mapping[str, Any] | None = None
    ) -> None:
        if tokenizer.chat_template is None:
            raise _no_template()
        self.tokenizer = tokenizer
        self._template: str = tokenizer.chat_template
        offered = {"tools": conversation.tools} if conversation.tools else {}
        self._variables, self._now = {**offered, **(variables or {})}, clock()
        self._names, self._names_written = _control_names(tokenizer)
        plain = conversation.plain()
        self._base = _free_plane(plain, len(self._names))
        self.messages = [self._hidden(message) for message in plain]
        first, last = chr(self._base), chr(self._base + max(len(self._names) - 1, 0))
        self._private = re.compile(f"([{first}-{last}])")

    def text(self, end: int, generation_prompt: bool) -> str:
        """The template's text for the first `end` messages."""
        return self.rendered(self.messages[:end], generation_prompt)[0]

    def rendered(
        self, messages: Sequence[Mapping[str, Any]], generation_prompt: bool
    ) -> tuple[str, list[tuple[int, int]]]:
        """The template's text for these messages, and what it marks as the assistant's."""
        if not messages:
            return "", []
        return render_marked(
            self._template,
            messages,
            generation_prompt=generation_prompt,
            tokens=self.tokenizer.template_tokens,
            variables=self._variables,
            now=self._now,
        )

    def opens_with(self, ids: Sequence[int]) -> bool:
        """Whether the template itself writes one of these tokens."""
        return any(self.tokenizer.added_tokens.get(i) in self._names_written for i in ids)

    def parts(self, text: str) -> list[tuple[str, bool]]:
        """The text cut into what the template and the messages wrote (False) and hidden look-alikes (True)."""
        pieces = enumerate(self._private.split(text))
        return [(self._names[ord(p) - self._base] if i % 2 else p, bool(i % 2)) for i, p in pieces if p]

    def _hidden(self, message: Mapping[str, Any]) -> dict[str, Any]:
        own = message.get("role") == "assistant"
        pattern = _patterns(self.tokenizer)[0 if own else 1]
        index = {name: i for i, name in enumerate(self._names)}

        def hide(value: Any) -> Any:
            if isinstance(value, str):
                return pattern.sub(lambda found: chr(self._base + index[found[0]]), value)
            if isinstance(value, Mapping):
                return {key: hide(item) for key, item in value.items()}
            return [hide(item) for item in value] if isinstance(value, (list, tuple)) else value

        return {key: value if key == "role" else hide(value) for key, value in message.items()}


@lru_cache(maxsize=16)
def _control_names(tokenizer: Tokenizer) -> tuple[list[str], frozenset[str]]:
    """Texts of the tokens that only a template may write, longest first, and those that this one does write."""
    written = literals(tokenizer.chat_template or "")
    special = {tokenizer.added_tokens[i] for i in tokenizer.special_ids if i in tokenizer.added_tokens}
    named = {name for name in tokenizer.added_tokens.values() if name.strip() and name in written}
    return sorted(filter(None, special | named), key=lambda name: (-len(name), name)), frozenset(named)


@lru_cache(maxsize=16)
def _patterns(tokenizer: Tokenizer) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What is hidden in an assistant's message, and in any other."""
    names, _ = _control_names(tokenizer)
    special = {tokenizer.added_tokens[i] for i in tokenizer.special_ids if i in tokenizer.added_tokens}
    own = [name for name in names if name in special and name not in REASONING]
    either = ["|".join(map(re.escape, chosen)) or r"(?!)" for chosen in (own, names)]
    return re.compile(either[0]), re.compile(either[1])


def _free_plane(messages: Sequence[Mapping[str, Any]], count: int) -> int:
    """The first code point of `count` private characters that no message uses."""
    used = {ord(c) >> 12 for message in messages for c in _texts(message) if ord(c) >= PRIVATE_PLANES[0]}
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


def _texts(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "".join(map(_texts, value.values()))
    return "".join(map(_texts, value)) if isinstance(value, (list, tuple)) else ""


def _no_template() -> LuhuoError:
    return LuhuoError(
        tr("This model has no chat template: it was not made for chat.", "该模型没有对话模板：它不是对话模型。"),
        expected=tr("chat_template in tokenizer_config.json", "tokenizer_config.json 中的 chat_template"),
        fix=tr(
            "Use a model made for chat, or put a chat_template.jinja into its directory.",
            "请使用对话模型，或在模型目录中放入 chat_template.jinja。",
        ),
    )
