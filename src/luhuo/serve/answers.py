"""Answers as OpenAI's JSON: whole objects and the chunks of a stream."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from luhuo.serve.generation import Generation, Update
from luhuo.tokenizer.tokenizer import Tokenizer

LEAST = -9999.0
"""Stands for the log-probability of the impossible, which JSON has no number for."""
REASONS = {"cancelled": "stop"}


@dataclass
class Collected:
    """One finished or growing answer."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top_logprobs: list[dict[int, float]] = field(default_factory=list)
    finish_reason: str | None = None

    def add(self, update: Update) -> None:
        """Take an update in."""
        self.text += update.text
        self.tokens += update.tokens
        self.logprobs += update.logprobs
        self.top_logprobs += update.top_logprobs
        self.finish_reason = reason(update.finish_reason)


async def collect(generation: Generation) -> list[Collected]:
    """All answers of a generation, whole."""
    answers = [Collected() for _ in generation.requests]
    async for update in generation.updates():
        answers[update.index].add(update)
    return answers


def reason(given: str | None) -> str | None:
    """A finish reason in OpenAI's words."""
    return REASONS.get(given, given) if given else None


def new_id(kind: str) -> str:
    """An identifier such as chatcmpl-…"""
    return f"{kind}-{uuid.uuid4().hex[:24]}"


def usage(prompt: int, completion: int, cached: int) -> dict[str, Any]:
    """Tokens read and written, and of those read the ones that were known from earlier requests."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


class Envelope:
    """What all chunks of one answer, or the one object, have in common."""

    def __init__(self, kind: str, object_name: str, model: str) -> None:
        self.id, self._object, self._model = new_id(kind), object_name, model
        self._created = int(time.time())

    def whole(self, choices: list[dict[str, Any]], tokens: dict[str, Any]) -> dict[str, Any]:
        """The object of an answer that is not streamed."""
        return {**self._head(self._object), "choices": choices, "usage": tokens}

    def chunk(self, choices: list[dict[str, Any]], name: str | None = None, **more: Any) -> dict[str, Any]:
        """One chunk of a stream."""
        return {**self._head(name or self._object), "choices": choices, **more}

    def _head(self, object_name: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": object_name,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": None,
        }


def chat_logprobs(
    tokenizer: Tokenizer, tokens: list[int], logprobs: list[float], top: list[dict[int, float]]
) -> dict[str, Any]:
    """`logprobs` of a chat's choice."""
    content = []
    for i, (token, logprob) in enumerate(zip(tokens, logprobs, strict=False)):
        best = top[i] if i < len(top) else {}
        content.append(
            {
                **_token(tokenizer, token, logprob),
                "top_logprobs": [_token(tokenizer, other, value) for other, value in best.items()],
            }
        )
    return {"content": content, "refusal": None}


def completion_logprobs(
    tokenizer: Tokenizer,
    tokens: list[int],
    logprobs: list[float | None],
    top: list[dict[int, float] | None],
    offset: int,
) -> dict[str, Any]:
    """`logprobs` of a completion's choice; `offset` is where in the text its first token begins."""
    texts = [_text(tokenizer, token) for token in tokens]
    offsets = []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    return {
        "tokens": texts,
        "token_logprobs": [None if value is None else max(value, LEAST) for value in logprobs],
        "top_logprobs": [
            best if best is None else {_text(tokenizer, t): max(v, LEAST) for t, v in best.items()} for best in top
        ]
        or None,
        "text_offset": offsets,
    }


def _token(tokenizer: Tokenizer, token: int, logprob: float) -> dict[str, Any]:
    data = tokenizer.token_bytes(token)
    return {"token": data.decode("utf-8", "replace"), "logprob": max(logprob, LEAST), "bytes": list(data)}


def _text(tokenizer: Tokenizer, token: int) -> str:
    return tokenizer.token_bytes(token).decode("utf-8", "replace")
