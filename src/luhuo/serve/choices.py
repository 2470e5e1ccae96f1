"""Finished answers as the choices of OpenAI's objects; the server and batches share them."""

from __future__ import annotations

from typing import Any

from luhuo.inference.call_writer import joined
from luhuo.inference.request import Request
from luhuo.serve.answers import Collected, Envelope, chat_logprobs, completion_logprobs, usage
from luhuo.serve.prompts import reader_of
from luhuo.serve.schemas import ChatBody, CompletionBody
from luhuo.serve.served import Served


def chat_choice(served: Served, body: ChatBody, index: int, answer: Collected, request: Request) -> dict[str, Any]:
    """One finished answer, taken apart into reasoning, content and tool calls."""
    logprobs = None
    if body.logprobs:
        logprobs = chat_logprobs(served.tokenizer, answer.tokens, answer.logprobs, answer.top_logprobs)
    reader = reader_of(served, body, request)
    parts = (reader.push(answer.text), reader.flush())
    content = "".join(part.content for part in parts)
    calls = [call.openai() for call in joined(call for part in parts for call in part.tool_calls)]
    message: dict[str, Any] = {"role": "assistant", "content": content or (None if calls else ""), "refusal": None}
    if reasoning := "".join(part.reasoning for part in parts):
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
    ended = reader.finish_reason(answer.finish_reason or "stop")
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": ended}


def completion_object(
    served: Served, body: CompletionBody, groups: list[list[Request]], answers: list[Collected]
) -> dict[str, Any]:
    """The object of finished completions; of each prompt's answers the best `n`, where more were generated."""
    found = {id(one): answer for one, answer in zip((r for g in groups for r in g), answers, strict=True)}
    choices: list[dict[str, Any]] = []
    for group in groups:
        wanted = body.n or 1
        best = sorted(group, key=lambda one: (-one.score, one.choice))[:wanted] if len(group) > wanted else group
        for one in best:
            answer = found[id(one)]
            logprobs = logprobs_of(served, body, one, answer, 0) if body.logprobs is not None else None
            choice = {"index": len(choices), "text": answer.text, "logprobs": logprobs}
            choices.append(choice | {"finish_reason": answer.finish_reason})
    read = sum(len(group[0].prompt) for group in groups)
    cached = sum(group[0].cached_tokens for group in groups)
    written = sum(len(answer.tokens) for answer in answers)
    return Envelope("cmpl", "text_completion", served.name).whole(choices, usage(read, written, cached))


def logprobs_of(
    served: Served, body: CompletionBody, request: Request, answer: Collected, offset: int
) -> dict[str, Any]:
    """Log-probabilities of an answer's tokens, behind those of the prompt where it is echoed."""
    tokens = list(answer.tokens)
    logprobs: list[float | None] = [*answer.logprobs]
    top: list[dict[int, float] | None] = [*answer.top_logprobs]
    before = request.prompt_logprobs if body.echo and offset == 0 else None
    if before is not None:
        tokens = request.prompt + tokens
        logprobs = [*(None if one is None else one[0] for one in before), *logprobs]
        top = [*(None if one is None else one[1] for one in before), *top]
    return completion_logprobs(served.tokenizer, tokens, logprobs, top if body.logprobs else [], offset)
