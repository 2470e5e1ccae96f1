"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from luhuo.serve.answers import Envelope, chat_logprobs, collect, reason, usage
from luhuo.serve.choices import chat_choice
from luhuo.serve.generation import Generation
from luhuo.serve.house import Exchange, house_of
from luhuo.serve.prompts import chat_requests
from luhuo.serve.schemas import ChatBody
from luhuo.serve.served import Served
from luhuo.serve.streaming import DONE, event

router = APIRouter()


@router.post("/v1/chat/completions")
async def chat_completions(request: HttpRequest, body: ChatBody) -> Response:
    """Answer a conversation."""
    house = house_of(request)
    served = house.models.find(body.model)
    requests = await house.prepare(lambda: chat_requests(served, body, house.config.max_tokens))
    exchange = Exchange(request, served, requests)
    if body.stream:
        return exchange.stream(lambda generation: _events(generation, served, body))
    return await exchange.answer(lambda generation: _whole(generation, served, body))


async def _whole(generation: Generation, served: Served, body: ChatBody) -> dict[str, Any]:
    answers = await collect(generation)
    choices = [chat_choice(served, body, index, answer) for index, answer in enumerate(answers)]
    tokens = usage(generation.prompt_tokens, generation.completion_tokens)
    return Envelope("chatcmpl", "chat.completion", served.name).whole(choices, tokens)


async def _events(generation: Generation, served: Served, body: ChatBody) -> AsyncIterator[str]:
    envelope = Envelope("chatcmpl", "chat.completion.chunk", served.name)
    counted: dict[str, Any] = {"usage": None} if body.stream_options and body.stream_options.include_usage else {}
    begun: set[int] = set()
    async for update in generation.updates():
        if update.index not in begun:
            begun.add(update.index)
            yield event(envelope.chunk([_delta(update.index, {"role": "assistant", "content": ""})], **counted))
        if update.text or (body.logprobs and update.tokens):
            logprobs = None
            if body.logprobs:
                logprobs = chat_logprobs(served.tokenizer, update.tokens, update.logprobs, update.top_logprobs)
            choice = _delta(update.index, {"content": update.text}) | {"logprobs": logprobs}
            yield event(envelope.chunk([choice], **counted))
        if update.finish_reason:
            choice = _delta(update.index, {}) | {"finish_reason": reason(update.finish_reason)}
            yield event(envelope.chunk([choice], **counted))
    if counted:
        tokens = usage(generation.prompt_tokens, generation.completion_tokens)
        yield event(envelope.chunk([], usage=tokens))
    yield DONE


def _delta(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
