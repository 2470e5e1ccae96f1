"""The one data model for dialogue: a conversation is a list of messages with roles in a checked order."""

from __future__ import annotations

import json
import math
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
    tool_calls: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    """Of an assistant's turn, in OpenAI's layout: {"id", "type": "function", "function": {"name", "arguments"}}."""
    extra: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What else a template may read: `tool_call_id`, `name`, `reasoning_content`."""
    weight: float = 1.0
    """How much each token of a target counts in the loss."""

    @property
    def is_target(self) -> bool:
        """Whether this turn's content and end of turn count in the loss."""
        return self.role == "assistant" and self.train

    def untrained(self) -> Message:
        """The same turn, not to be learned."""
        return replace(self, train=False)


@dataclass(frozen=True)
class Conversation:
    """Messages in order, with what is known about them (`id`, `family`, `lang`, …) in `meta`.

    Raises `LuhuoError` when a role is unknown, out of order, or a content is not text.
    """

    messages: tuple[Message, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    """The tools the assistant is offered, as JSON schemas: templates write them."""

    def __post_init__(self) -> None:
        check_order(self.messages)

    @classmethod
    def of(
        cls,
        messages: Iterable[Mapping[str, Any] | Message],
        *,
        tools: tuple[Mapping[str, Any], ...] = (),
        **meta: Any,
    ) -> Conversation:
        """Build from {"role", "content"}, with "train" false for turns not to learn, or with a "weight": what a turn
        counts in the loss, 0 for nothing (OpenAI allows 0 and 1 only)."""
        return cls(tuple(m if isinstance(m, Message) else _message(m) for m in messages), meta, tools)

    @property
    def has_target(self) -> bool:
        """Whether any turn is to be learned."""
        return any(message.is_target for message in self.messages)

    def plain(self) -> list[dict[str, Any]]:
        """The messages as a template sees them: OpenAI's layout, the arguments of tool calls as objects."""
        return [_plain(message) for message in self.messages]

    def until(self, end: int) -> Conversation:
        """The first `end` messages."""
        return replace(self, messages=self.messages[:end])

    def last_turn_only(self) -> Conversation:
        """The same conversation, its last target alone to be learned."""
        targets = [i for i, message in enumerate(self.messages) if message.is_target]
        kept = targets[-1:]
        return replace(self, messages=tuple(m if i in kept else m.untrained() for i, m in enumerate(self.messages)))

    def one_by_one(self) -> list[Conversation]:
        """One conversation a target turn: it ends with that turn, and only that turn is a target.

        For templates that render old answers otherwise than fresh ones (reasoning is cut from the history).
        """
        parts = []
        for i, message in enumerate(self.messages):
            if message.is_target:
                history = tuple(m.untrained() for m in self.messages[:i])
                parts.append(replace(self, messages=(*history, message)))
        return parts


class RoleOrder(LuhuoError):
    """A role is unknown, or cannot stand where it stands."""


def check_order(messages: tuple[Message, ...]) -> None:
    """Raise `RoleOrder` unless roles are known and in an order that a chat can have."""
    if not messages:
        raise LuhuoError(tr("The conversation has no messages.", "对话中没有消息。"))
    before: str | None = None
    for number, message in enumerate(messages, 1):
        if message.role not in MAY_FOLLOW[before]:
            raise RoleOrder(
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


EXTRA = ("tool_call_id", "name", "reasoning_content")


def _message(values: Mapping[str, Any]) -> Message:
    role, content = values.get("role"), values.get("content")
    calls = values.get("tool_calls") or ()
    if isinstance(content, list) and all(isinstance(p, Mapping) and isinstance(p.get("text"), str) for p in content):
        content = "".join(part["text"] for part in content)  # OpenAI's list of text parts
    if content is None and calls:
        content = ""
    if not isinstance(role, str) or not isinstance(content, str):
        raise LuhuoError(
            tr("A message needs a role and a content, both text.", "消息必须有文本类型的 role 和 content。"),
            expected='{"role": "user", "content": "…"}',
            found=f"role: {type(role).__name__}, content: {type(content).__name__}",
        )
    extra = {name: value for name in EXTRA if isinstance(value := values.get(name), str)}
    weight = _weight(values.get("weight"))
    train = weight > 0 if values.get("train") is None else bool(values["train"])  # Parquet writes None for nothing
    return Message(role, content, train, tuple(_call(call, role) for call in calls), extra, weight or 1.0)


def _weight(value: Any) -> float:
    """A message's weight, 1 without one. Raises `LuhuoError` for what is no number from 0 on."""
    if value is None:
        return 1.0
    if not isinstance(value, (bool, int, float)) or not 0 <= value < math.inf:
        raise LuhuoError(
            tr("The weight of a message is a number from 0 on.", "消息的 weight 应为不小于 0 的数。"),
            expected="0, 0.5, 1, …",
            found=repr(value)[:80],
        )
    return float(value)


def _call(values: Any, role: str) -> Mapping[str, Any]:
    """A tool call in OpenAI's layout. Raises `LuhuoError` when it has no name, or a user is said to make it."""
    function = values.get("function", values) if isinstance(values, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if role != "assistant" or not isinstance(name, str) or not isinstance(function, Mapping):
        raise LuhuoError(
            tr("This is no tool call of an assistant.", "这不是助手的工具调用。"),
            expected='{"type": "function", "function": {"name": "…", "arguments": "{…}"}}',
            found=f"role: {role}, {str(values)[:80]}",
        )
    arguments = function.get("arguments", {})
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    named = {"id": values["id"]} if isinstance(values.get("id"), str) else {}
    return {**named, "type": "function", "function": {"name": name, "arguments": written}}


def _plain(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.content, **message.extra}
    if message.tool_calls:
        plain["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": _object(call["function"]["arguments"])}}
            for call in message.tool_calls
        ]
    return plain


def _object(text: str) -> Any:
    """The arguments as an object, which is what published templates write as JSON; what is none stays text."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text
