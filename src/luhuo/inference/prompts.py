"""What an engine is asked with: texts, token ids, conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luhuo.dialogue.conversation import Conversation

Messages = Sequence[Mapping[str, Any]]
Prompt = str | Sequence[int] | Conversation
"""Text (special tokens in it are plain text), token ids, or a conversation to be answered."""


def is_messages(value: Any) -> bool:
    """Whether this is one conversation as a list of dictionaries."""
    return isinstance(value, Sequence) and bool(value) and isinstance(value[0], Mapping)


def conversation_of(value: Any) -> Conversation:
    """A conversation from itself, or from a list of messages."""
    return value if isinstance(value, Conversation) else Conversation.of(value)
