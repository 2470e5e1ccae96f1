"""From a request's body to the engine's requests. What is wrong with the body is found here, before anything runs."""

from __future__ import annotations

from typing import Any

from luhuo.core.language import tr
from luhuo.inference.request import Request
from luhuo.serve.errors import not_offered, wrong
from luhuo.serve.messages import conversation_of
from luhuo.serve.options import sampling_of
from luhuo.serve.schemas import ChatBody, CompletionBody, Options
from luhuo.serve.served import Served

MAX_ANSWERS = 256
"""Answers that one HTTP request may ask for: prompts times choices."""


def chat_requests(served: Served, body: ChatBody, most: int | None) -> list[Request]:
    """One request for each of a chat's choices. `most`: the server's limit of an answer's tokens."""
    if not served.chats:
        raise not_offered(tr("chat with a model that has no chat template", "没有对话模板的模型无法聊天"), "model")
    if body.top_logprobs is not None and not body.logprobs:
        raise wrong("top_logprobs needs logprobs: true.", "top_logprobs")
    kind = (body.response_format or {}).get("type", "text")
    if kind != "text":
        raise not_offered(f"response_format {str(kind)[:40]!r}", "response_format")
    if body.tools:
        raise not_offered("tools", "tools")
    return _requests(served, conversation_of(body.messages), body, most)


def completion_requests(served: Served, body: CompletionBody, most: int | None) -> list[list[Request]]:
    """For each prompt one request for each of its choices."""
    if body.suffix:
        raise not_offered("suffix", "suffix")
    one = isinstance(body.prompt, str) or isinstance(body.prompt[0], int)
    prompts: list[Any] = [body.prompt] if one else list(body.prompt)
    if len(prompts) * max(body.n or 1, body.best_of or 1) > MAX_ANSWERS:
        raise wrong(
            tr(f"At most {MAX_ANSWERS} answers in one request.", f"一个请求最多 {MAX_ANSWERS} 个回答。"), "prompt"
        )
    return [_requests(served, prompt, body, most) for prompt in prompts]


def _requests(served: Served, prompt: Any, body: Options, most: int | None) -> list[Request]:
    ids, room = served.prompt(prompt)
    room = min(room, most or room)
    sampling = sampling_of(body, vocab_size=served.writer.model.config.vocab_size, room=room)
    return [served.request(ids, sampling, choice) for choice in range(sampling.n)]
