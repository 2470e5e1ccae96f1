"""From a request's body to the engine's requests. What is wrong with the body is found here, before anything runs."""

from __future__ import annotations

from typing import Any

from luhuo.core.language import tr
from luhuo.dialogue.render import render
from luhuo.inference.request import Request
from luhuo.serve.errors import not_offered, wrong
from luhuo.serve.messages import conversation_of
from luhuo.serve.options import sampling_of
from luhuo.serve.schemas import ChatBody, CompletionBody, Options
from luhuo.serve.served import Served

RESERVED = ("messages", "tools", "add_generation_prompt", "bos_token", "eos_token")
MAX_ANSWERS = 256
"""Answers that one HTTP request may ask for: prompts times choices."""


def chat_requests(served: Served, body: ChatBody, most: int | None) -> list[Request]:
    """One request for each of a chat's choices. `most`: the server's limit of an answer's tokens."""
    if not served.chats:
        raise not_offered(
            tr(f"chat with “{served.name}”, which has no chat template", f"与没有对话模板的“{served.name}”聊天"),
            "model",
        )
    if body.top_logprobs is not None and not body.logprobs:
        raise wrong("top_logprobs needs logprobs: true.", "top_logprobs")
    if body.tools:
        raise not_offered("tools", "tools")
    tokenizer = served.tokenizer
    ids = render(conversation_of(body.messages), tokenizer, generation_prompt=True, variables=variables_of(body)).ids
    return _requests(served, ids, body, most, "messages")


def variables_of(body: ChatBody) -> dict[str, Any]:
    """What the template is told beside the messages. Raises `ApiError` for names that are not the caller's."""
    given = body.chat_template_kwargs or {}
    for name in given:
        if name in RESERVED:
            raise wrong(tr(f"chat_template_kwargs may not set {name}.", f"chat_template_kwargs 不能设置 {name}。"))
    return given | ({"reasoning_effort": body.reasoning_effort} if body.reasoning_effort else {})


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
    engine = served.writer
    return [_requests(served, engine.prompt_ids(_known(served, one)), body, most, "prompt") for one in prompts]


def _known(served: Served, prompt: str | list[int]) -> str | list[int]:
    """The prompt. Raises `ApiError` for tokens that the model does not have."""
    if isinstance(prompt, list):
        served.room([max(prompt)], "prompt")
    return prompt


def _requests(served: Served, ids: list[int], body: Options, most: int | None, param: str) -> list[Request]:
    room = served.room(ids, param)
    sampling = sampling_of(body, vocab_size=served.writer.model.config.vocab_size, room=min(room, most or room))
    return served.requests(ids, sampling)
