"""POST /v1/responses, for text: the same generation in the shape of OpenAI's newer API. Nothing is stored."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from luhuo.core.language import tr
from luhuo.inference.answers import AnswerReader
from luhuo.serve.answers import Collected, collect, new_id
from luhuo.serve.errors import not_offered, wrong
from luhuo.serve.generation import Generation
from luhuo.serve.house import Exchange, house_of
from luhuo.serve.prompts import chat_requests, reader_of
from luhuo.serve.schemas import ChatBody, ResponsesBody
from luhuo.serve.served import Served
from luhuo.serve.streaming import event

router = APIRouter()


@router.post("/v1/responses")
async def responses(request: HttpRequest, body: ResponsesBody) -> Response:
    """Answer a text or a conversation."""
    house = house_of(request)
    served = house.models.find(body.model)
    chat = as_chat(body)
    requests = await house.prepare(lambda: chat_requests(served, chat, house.config.max_tokens))
    exchange = Exchange(request, served, requests)
    reply = _Reply(served, body, reader_of(served, chat, requests[0]))
    if body.stream:
        return exchange.stream(reply.events)
    return await exchange.answer(reply.whole)


def as_chat(body: ResponsesBody) -> ChatBody:
    """The same request as a chat's. Raises `ApiError` for what has no equal there."""
    for name in ("previous_response_id", "background", "tools", "include"):
        if getattr(body, name):
            raise not_offered(name, name)
    if body.truncation == "auto":
        raise not_offered(
            tr("truncation: auto (nothing is cut here)", "truncation: auto（此处从不截断）"), "truncation"
        )
    messages: list[dict[str, Any]] = []
    if body.instructions:
        messages.append({"role": "system", "content": body.instructions})
    if isinstance(body.input, str):
        messages.append({"role": "user", "content": body.input})
    else:
        messages += [_message(item, f"input[{place}]") for place, item in enumerate(body.input)]
    return ChatBody(
        model=body.model,
        messages=messages,
        max_completion_tokens=body.max_output_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        min_p=body.min_p,
        repetition_penalty=body.repetition_penalty,
        seed=body.seed,
        response_format=_format(body.text),
    )


def _message(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    kind = item.get("type", "message")
    if kind != "message":
        raise wrong(
            tr(
                f"{where}: items of type {str(kind)[:40]!r} are not supported.",
                f"{where}：不支持类型 {str(kind)[:40]!r}。",
            ),
            where,
        )
    return {"role": item.get("role"), "content": item.get("content")}


def _format(text: dict[str, Any] | None) -> dict[str, Any] | None:
    """`text.format` as a chat's `response_format`."""
    wanted = (text or {}).get("format")
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_schema":
        inner = {name: value for name, value in wanted.items() if name != "type"}
        return {"type": "json_schema", "json_schema": inner}
    return wanted


class _Reply:
    """One response object while it grows."""

    def __init__(self, served: Served, body: ResponsesBody, reader: AnswerReader) -> None:
        self._body, self._reader = body, reader
        self._text = self._reasoning = ""
        self._id, self._item, self._model = new_id("resp"), new_id("msg"), served.name
        self._created = int(time.time())
        self._number = -1

    async def whole(self, generation: Generation) -> dict[str, Any]:
        """The finished object."""
        answer = (await collect(generation))[0]
        self._take(answer.text, last=True)
        return self._object(generation, answer)

    async def events(self, generation: Generation) -> AsyncIterator[str]:
        """The object's growth, event by event."""
        answer = Collected()
        place = {"item_id": self._item, "output_index": 0, "content_index": 0}
        yield self._event("response.created", response=self._object(generation, answer))
        yield self._event("response.in_progress", response=self._object(generation, answer))
        yield self._event("response.output_item.added", output_index=0, item=self._message("", "in_progress"))
        yield self._event("response.content_part.added", part=_part(""), **place)
        async for update in generation.updates():
            answer.add(update)
            if text := self._take(update.text, last=bool(update.finish_reason)):
                yield self._event("response.output_text.delta", delta=text, logprobs=[], **place)
        status = self._status(answer)
        yield self._event("response.output_text.done", text=self._text, logprobs=[], **place)
        yield self._event("response.content_part.done", part=_part(self._text), **place)
        item = self._message(self._text, status)
        yield self._event("response.output_item.done", output_index=0, item=item)
        yield self._event(f"response.{status}", response=self._object(generation, answer))

    def _take(self, text: str, *, last: bool) -> str:
        """Take text of the answer in; gives what of it is for the reader."""
        parts = [self._reader.push(text)] + ([self._reader.flush()] if last else [])
        self._reasoning += "".join(part.reasoning for part in parts)
        said = "".join(part.content for part in parts)
        self._text += said
        return said

    def _event(self, name: str, **values: Any) -> str:
        self._number += 1
        return event({"type": name, "sequence_number": self._number, **values}, name)

    def _object(self, generation: Generation, answer: Collected) -> dict[str, Any]:
        status = self._status(answer)
        done = status != "in_progress"
        read, written = generation.prompt_tokens, generation.completion_tokens
        usage = {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": generation.cached_tokens},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + written,
        }
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": self._body.instructions,
            "max_output_tokens": self._body.max_output_tokens,
            "model": self._model,
            "output": self._output(status) if done else [],
            "parallel_tool_calls": True,
            "temperature": 1.0 if self._body.temperature is None else self._body.temperature,
            "top_p": 1.0 if self._body.top_p is None else self._body.top_p,
            "tool_choice": "auto",
            "tools": [],
            "text": self._body.text or {"format": {"type": "text"}},
            "truncation": "disabled",
            "store": False,
            "metadata": self._body.metadata or {},
            "usage": usage if done else None,
        }

    def _output(self, status: str) -> list[dict[str, Any]]:
        """The message, and behind it the reasoning where there was some: the message keeps its place in the stream."""
        items = [self._message(self._text, status)]
        if self._reasoning:
            content = [{"type": "reasoning_text", "text": self._reasoning}]
            items.append({"id": f"rs-{self._id[5:]}", "type": "reasoning", "summary": [], "content": content})
        return items

    def _status(self, answer: Collected) -> str:
        if answer.finish_reason is None:
            return "in_progress"
        return "incomplete" if answer.finish_reason == "length" else "completed"

    def _message(self, text: str, status: str) -> dict[str, Any]:
        content = [] if status == "in_progress" else [_part(text)]
        return {"id": self._item, "type": "message", "role": "assistant", "status": status, "content": content}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
