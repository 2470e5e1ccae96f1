"""POST /v1/completions, /tokenize and /detokenize: plain text and tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from luhuo.core.language import tr
from luhuo.dialogue.render import render
from luhuo.inference.tool_choice import chat_prompt
from luhuo.serve.answers import Collected, Envelope, collect, reason, usage
from luhuo.serve.choices import completion_object, logprobs_of
from luhuo.serve.errors import wrong
from luhuo.serve.generation import Generation
from luhuo.serve.house import Exchange, house_of
from luhuo.serve.messages import conversation_of
from luhuo.serve.prompts import completion_requests
from luhuo.serve.schemas import CompletionBody, DetokenizeBody, TokenizeBody
from luhuo.serve.served import Served
from luhuo.serve.streaming import DONE, event

router = APIRouter()


@router.post("/v1/completions")
async def completions(request: HttpRequest, body: CompletionBody) -> Response:
    """Continue one text or several."""
    house = house_of(request)
    served = house.models.find(body.model)
    if body.stream and (body.best_of or 1) > (body.n or 1):
        raise wrong(tr("best_of cannot be streamed.", "best_of 不支持流式输出。"), "best_of")
    groups = await house.prepare(lambda: completion_requests(served, body, house.config.max_tokens))
    exchange = Exchange(request, served, [one for group in groups for one in group])
    if body.stream:
        return exchange.stream(lambda generation: _events(generation, served, body))

    async def whole(generation: Generation) -> dict[str, Any]:
        return completion_object(served, body, groups, await collect(generation))

    return await exchange.answer(whole)


async def _events(generation: Generation, served: Served, body: CompletionBody) -> AsyncIterator[str]:
    envelope = Envelope("cmpl", "text_completion", served.name)
    counted: dict[str, Any] = {"usage": None} if body.stream_options and body.stream_options.include_usage else {}
    offsets = [0] * len(generation.requests)
    async for update in generation.updates():
        if not (update.text or update.finish_reason or (body.logprobs is not None and update.tokens)):
            continue
        piece = Collected()
        piece.add(update)
        logprobs = None
        if body.logprobs is not None:
            logprobs = logprobs_of(served, body, generation.requests[update.index], piece, offsets[update.index])
        offsets[update.index] += len(update.text)
        choice = {"index": update.index, "text": update.text, "logprobs": logprobs}
        yield event(envelope.chunk([choice | {"finish_reason": reason(update.finish_reason)}], **counted))
    if counted:
        yield event(
            envelope.chunk(
                [], usage=usage(generation.prompt_tokens, generation.completion_tokens, generation.cached_tokens)
            )
        )
    yield DONE


@router.post("/tokenize")
async def tokenize(request: HttpRequest, body: TokenizeBody) -> dict[str, Any]:
    """Tokens of a text or of a chat as the model reads them, and how many the model can look at."""
    house = house_of(request)
    served = house.models.find(body.model)
    if (body.prompt is None) == (body.messages is None):
        raise wrong(tr("Give prompt or messages.", "请给出 prompt 或 messages 之一。"), "prompt")

    def encode() -> list[int]:
        if body.prompt is not None:
            return served.tokenizer.encode(body.prompt, framed=body.add_special_tokens)
        conversation, tools = conversation_of(body.messages or []), body.tools or []
        if body.add_generation_prompt:
            return chat_prompt(conversation, served.tokenizer, tools)
        return render(conversation, served.tokenizer, variables={"tools": tools} if tools else None).ids

    ids = await house.prepare(encode)
    return {"count": len(ids), "max_model_len": served.context, "tokens": ids}


@router.post("/detokenize")
async def detokenize(request: HttpRequest, body: DetokenizeBody) -> dict[str, Any]:
    """The text of tokens."""
    house = house_of(request)
    served = house.models.find(body.model)
    tokenizer = served.tokenizer
    if body.tokens and max(body.tokens) >= tokenizer.vocab_size:
        known = tokenizer.vocab_size
        raise wrong(tr(f"Token ids are below {known}.", f"词元编号应小于 {known}。"), "tokens")
    return {"prompt": await house.prepare(lambda: tokenizer.decode(body.tokens))}
