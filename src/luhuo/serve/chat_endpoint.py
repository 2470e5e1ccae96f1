"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from luhuo.inference.answers import AnswerReader
from luhuo.serve.answers import Envelope, chat_logprobs, collect, reason, usage
from luhuo.serve.choices import chat_choice
from luhuo.serve.generation import Generation, Update
from luhuo.serve.house import Exchange, house_of
from luhuo.serve.prompts import chat_requests, reader_of
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
    pairs = enumerate(zip(await collect(generation), generation.requests, strict=True))
    choices = [chat_choice(served, body, index, answer, request) for index, (answer, request) in pairs]
    tokens = usage(generation.prompt_tokens, generation.completion_tokens, generation.cached_tokens)
    return Envelope("chatcmpl", "chat.completion", served.name).whole(choices, tokens)


async def _events(generation: Generation, served: Served, body: ChatBody) -> AsyncIterator[str]:
    envelope = Envelope("chatcmpl", "chat.completion.chunk", served.name)
    counted: dict[str, Any] = {"usage": None} if body.stream_options and body.stream_options.include_usage else {}
    readers = [reader_of(served, body, request) for request in generation.requests]
    begun: set[int] = set()
    async for update in generation.updates():
        reader = readers[update.index]
        choices = _choices(served, body, reader, update, update.index not in begun)
        if text := "".join(event(envelope.chunk([choice], **counted)) for choice in choices):
            yield text
        begun.add(update.index)
    text = ""
    if counted:
        tokens = usage(generation.prompt_tokens, generation.completion_tokens, generation.cached_tokens)
        text = event(envelope.chunk([], usage=tokens))
    yield text + DONE


def _choices(
    served: Served, body: ChatBody, reader: AnswerReader, update: Update, first: bool
) -> Iterator[dict[str, Any]]:
    """The choices that an update becomes: one for each kind of thing in it."""
    index = update.index
    if first:
        yield _delta(index, {"role": "assistant", "content": ""})
    pieces = [reader.push(update.text)] + ([reader.flush()] if update.finish_reason else [])
    logprobs = None
    if body.logprobs and update.tokens:
        logprobs = chat_logprobs(served.tokenizer, update.tokens, update.logprobs, update.top_logprobs)
    if reasoning := "".join(piece.reasoning for piece in pieces):
        yield _delta(index, {"reasoning_content": reasoning})
    content = "".join(piece.content for piece in pieces)
    if content or logprobs:
        yield _delta(index, {"content": content}) | {"logprobs": logprobs}
    for part in (part for piece in pieces for part in piece.tool_calls):
        yield _delta(index, {"tool_calls": [part.openai()]})
    if update.finish_reason:
        ended = reader.finish_reason(reason(update.finish_reason) or "stop")
        yield _delta(index, {}) | {"finish_reason": ended}


def _delta(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
