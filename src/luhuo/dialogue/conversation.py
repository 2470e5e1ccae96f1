"""The one data model for dialogue: a conversation is a list of messages with roles in a checked order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

ROLES = ("system", "user", "assistant", "tool")

MAY_FOLLOW = {
    None: ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}
"""Which role may come after which; None stands for the start."""


@dataclass(frozen=True)
class Message:
    """One turn. `train` says whether the tokens of an assistant's turn are targets; other roles never are."""

    role: str
    content: str
    train: bool = True

    @property
    def is_target(self) -> bool:
        """Whether this turn's content and end of turn count in the loss."""
        return self.role == "assistant" and self.train


@dataclass(frozen=True)
class Conversation:
    """Messages in order, with what is known about them (`id`, `family`, `lang`, …) in `meta`.

    Raises `LuhuoError` when a role is unknown, out of order, or a content is not text.
    """

    messages: tuple[Message, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_order(self.messages)

    @classmethod
    def of(cls, messages: Iterable[Mapping[str, Any] | Message], **meta: Any) -> Conversation:
        """Build from {"role", "content"}, with "train" (or OpenAI's "weight") false for turns not to learn."""
        return cls(tuple(m if isinstance(m, Message) else _message(m) for m in messages), meta)

    @property
    def has_target(self) -> bool:
        """Whether any turn is to be learned."""
        return any(message.is_target for message in self.messages)

    def plain(self) -> list[dict[str, str]]:
        """The messages as a template and the OpenAI layout see them."""
        return [{"role": m.role, "content": m.content} for m in self.messages]

    def until(self, end: int) -> Conversation:
        """The first `end` messages."""
        return Conversation(self.messages[:end], self.meta)

    def one_by_one(self) -> list[Conversation]:
        """One conversation a target turn: it ends with that turn, and only that turn is a target.

        For templates that render old answers otherwise than fresh ones (reasoning is cut from the history).
        """
        parts = []
        for i, message in enumerate(self.messages):
            if message.is_target:
                history = tuple(replace(m, train=False) for m in self.messages[:i])
                parts.append(Conversation((*history, message), self.meta))
        return parts


def check_order(messages: tuple[Message, ...]) -> None:
    """Raise `LuhuoError` unless roles are known and in an order that a chat can have."""
    if not messages:
        raise LuhuoError(tr("The conversation has no messages.", "对话中没有消息。"))
    before: str | None = None
    for number, message in enumerate(messages, 1):
        if message.role not in MAY_FOLLOW[before]:
            raise LuhuoError(
                tr("A message has a role that cannot stand here.", "这条消息的角色不能出现在此处。")
                if message.role in ROLES
                else tr("Unknown role of a message.", "未知的消息角色。"),
                expected=" | ".join(MAY_FOLLOW[before]),
                found=message.role,
                where=tr(
                    f"message {number}, after {before or 'the start'}",
                    f"第 {number} 条消息，位于{before or '开头'}之后",
                ),
            )
        before = message.role


def _message(values: Mapping[str, Any]) -> Message:
    role, content = values.get("role"), values.get("content")
    if isinstance(content, list) and all(isinstance(p, Mapping) and isinstance(p.get("text"), str) for p in content):
        content = "".join(part["text"] for part in content)  # OpenAI's list of text parts
    if not isinstance(role, str) or not isinstance(content, str):
        raise LuhuoError(
            tr("A message needs a role and a content, both text.", "消息必须有文本类型的 role 和 content。"),
            expected='{"role": "user", "content": "…"}',
            found=f"role: {type(role).__name__}, content: {type(content).__name__}",
        )
    return Message(role, content, bool(values.get("train", values.get("weight", True))))
