"""OpenAI's messages to the house's conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luhuo.core.language import tr
from luhuo.dialogue.conversation import Conversation
from luhuo.serve.errors import wrong

FIELDS = {
    "role",
    "content",
    "name",
    "tool_calls",
    "tool_call_id",
    "refusal",
    "reasoning_content",
    "audio",
    "function_call",
}
KEPT = ("name", "tool_call_id", "reasoning_content")
"""Fields that templates may read, where they are text."""
TEXT_PARTS = ("text", "input_text", "output_text")


def conversation_of(messages: Sequence[Mapping[str, Any]]) -> Conversation:
    """The messages as a conversation; `developer` is `system`, and neighbours of one role become one message.

    Raises `ApiError` that names the message, and `LuhuoError` for an order that no chat has.
    """
    found: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        one = _message(message, f"messages[{number}]")
        if found and found[-1]["role"] == one["role"] and one["role"] in ("system", "user"):
            found[-1]["content"] += "\n\n" + one["content"]
        else:
            found.append(one)
    return Conversation.of(found)


def _message(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    unknown = sorted(set(message) - FIELDS)
    if unknown:
        raise wrong(tr(f"{where}: unknown field {unknown[0]!r}.", f"{where}：未知字段 {unknown[0]!r}。"), where)
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str):
        raise wrong(tr(f"{where}: a message needs a role.", f"{where}：消息缺少 role。"), f"{where}.role")
    for name in ("function_call", "audio"):
        if message.get(name) is not None:
            raise wrong(tr(f"{where}: {name} is not supported.", f"{where}：不支持 {name}。"), f"{where}.{name}")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise wrong(
            tr(f"{where}: the answer of a tool needs its tool_call_id.", f"{where}：工具消息缺少 tool_call_id。"),
            f"{where}.tool_call_id",
        )
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise wrong(tr(f"{where}: tool_calls is a list.", f"{where}：tool_calls 应为列表。"), f"{where}.tool_calls")
    kept = {name: message[name] for name in KEPT if isinstance(message.get(name), str)}
    content = text_of(content, where, optional=bool(calls))
    return kept | {"role": "system" if role == "developer" else role, "content": content, "tool_calls": calls}


def text_of(content: Any, where: str, *, optional: bool = False) -> str:
    """The text of a message's content: a string, or a list of text parts. Raises `ApiError` for anything else."""
    if isinstance(content, str):
        return content
    if content is None and optional:
        return ""
    if not isinstance(content, list):
        raise wrong(tr(f"{where}: the content must be text.", f"{where}：content 必须是文本。"), f"{where}.content")
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if kind not in TEXT_PARTS or not isinstance(part.get("text"), str):
            raise wrong(
                tr(
                    f"{where}: content of type {str(kind)[:40]!r} is not supported; this model reads text.",
                    f"{where}：不支持类型为 {str(kind)[:40]!r} 的内容；该模型只读文本。",
                ),
                f"{where}.content",
            )
    return "".join(part["text"] for part in content)
