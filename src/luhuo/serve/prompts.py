"""From a request's body to the engine's requests. What is wrong with the body is found here, before anything runs."""

from __future__ import annotations

from typing import Any

from luhuo.core.language import tr
from luhuo.inference.answers import AnswerReader, shows_special
from luhuo.inference.request import Request
from luhuo.inference.tool_choice import chat_prompt, forced
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
    tokenizer, tools = served.tokenizer, offered(body)
    ids = chat_prompt(conversation_of(body.messages), tokenizer, tools, variables_of(body))
    room = served.room(ids, "messages")
    sampling = sampling_of(body, vocab_size=served.writer.model.config.vocab_size, room=min(room, most or room))
    changes: dict[str, Any] = {"show_special": shows_special(tokenizer, tools=bool(tools))}
    if tools and body.tool_choice not in (None, "auto"):
        if sampling.format is not None:
            raise wrong(
                tr("A forced tool call takes no response_format.", "强制工具调用时不能设置 response_format。"),
                "response_format",
            )
        changes["format"] = forced(tools, tokenizer, name=_named(body.tool_choice), parallel=_parallel(body))
    return served.requests(ids, sampling.model_copy(update=changes))


def offered(body: ChatBody) -> list[dict[str, Any]]:
    """The tools that the model is told of. Raises `ApiError` for a choice among none, or of an unknown kind."""
    choice = body.tool_choice
    if choice in (None, "auto", "none"):
        return [] if choice == "none" else list(body.tools or [])
    if not body.tools:
        raise wrong(tr("tool_choice needs tools.", "设置 tool_choice 时必须给出 tools。"), "tool_choice")
    if choice != "required":
        _named(choice)
    return list(body.tools)


def reader_of(served: Served, body: ChatBody, request: Request) -> AnswerReader:
    """What takes an answer of this request apart."""
    return AnswerReader(served.tokenizer, request.prompt, offered(body))


def _named(choice: Any) -> str | None:
    """The tool that `tool_choice` names; None for "required". Raises `ApiError`."""
    if choice == "required":
        return None
    function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise wrong(
            tr(
                'tool_choice is "none", "auto", "required", or {"type": "function", "function": {"name": "…"}}.',
                'tool_choice 可为 "none"、"auto"、"required" 或 {"type": "function", "function": {"name": "…"}}。',
            ),
            "tool_choice",
        )
    return name


def _parallel(body: ChatBody) -> bool:
    return body.parallel_tool_calls is not False


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
