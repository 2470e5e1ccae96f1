"""From the fields of a request to the engine's settings."""

from __future__ import annotations

from typing import Any

from luhuo.core.language import tr
from luhuo.inference.sampling import Sampling
from luhuo.serve.errors import wrong
from luhuo.serve.schemas import ChatBody, CompletionBody, Options, Penalised, ResponsesBody

OWN_FORMATS = {"regex": "regex", "choice": "choices", "grammar": "grammar"}
"""Kinds of `response_format` that OpenAI does not have, and the field that holds each."""
SEED_BITS = 2**63 - 1


def sampling_of(body: Options, *, vocab_size: int, room: int) -> Sampling:
    """The settings that a request names; what it leaves out has OpenAI's defaults, and the answer may fill `room`."""
    values: dict[str, Any] = {
        "temperature": body.temperature,
        "top_p": body.top_p or None,
        "min_p": body.min_p,
        "repetition_penalty": body.repetition_penalty,
        "top_k": None if body.top_k is None else max(body.top_k, 0),
        "seed": None if body.seed is None else body.seed & SEED_BITS,
        "max_tokens": most_tokens(body) or room,
    }
    if body.top_p == 0:  # only the best token has less than no mass before it
        values |= {"top_k": 1}
    if isinstance(body, Penalised):
        values |= _penalised(body, vocab_size)
    if isinstance(body, ChatBody) and body.logprobs:
        values["logprobs"] = body.top_logprobs or 0
    if isinstance(body, ChatBody) and body.response_format:
        values["format"] = format_of(body.response_format)
    if isinstance(body, CompletionBody):
        values |= {"logprobs": body.logprobs, "best_of": body.best_of, "echo": body.echo or None}
        values |= {"prompt_logprobs": body.logprobs if body.echo else None}
    return Sampling.parse({name: value for name, value in values.items() if value is not None})


def most_tokens(body: Options) -> int | None:
    """The limit of the answer that the request names, whatever its field is called."""
    if isinstance(body, ChatBody):
        return body.max_completion_tokens or body.max_tokens
    if isinstance(body, CompletionBody):
        return body.max_tokens
    return body.max_output_tokens if isinstance(body, ResponsesBody) else None


def format_of(wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The engine's output format for a `response_format`; beside OpenAI's kinds, `regex`, `choice` and `grammar`.

    Raises `ApiError` for a kind that there is not.
    """
    kind = wanted.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"json_object": True}
    if kind == "json_schema":
        inner = wanted.get("json_schema")
        if not isinstance(inner, dict) or not isinstance(inner.get("schema"), (dict, bool)):
            raise wrong(
                tr("json_schema needs a schema, an object.", "json_schema 需要对象类型的 schema。"),
                "response_format.json_schema.schema",
            )
        return {"json_schema": inner["schema"]}
    if kind in OWN_FORMATS:
        name = OWN_FORMATS[kind]
        return {name: wanted.get(name)}
    known = ", ".join(("text", "json_object", "json_schema", *OWN_FORMATS))
    raise wrong(
        tr(f"Unknown response_format; there are {known}.", f"未知的 response_format；可用：{known}。"),
        "response_format.type",
    )


def _penalised(body: Penalised, vocab_size: int) -> dict[str, Any]:
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    return {
        "n": body.n,
        "stop": tuple(text for text in stop if text) or None,
        "ignore_eos": body.ignore_eos,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "min_tokens": body.min_tokens,
        "logit_bias": _bias(body.logit_bias, vocab_size) if body.logit_bias else None,
    }


def _bias(given: dict[str, float], vocab_size: int) -> dict[int, float]:
    """Token ids and what is added to their logits. Raises `ApiError` for what is no token."""
    found = {}
    for token, bias in given.items():
        if not (token.isascii() and token.isdigit() and len(token) < 10 and int(token) < vocab_size):
            raise wrong(
                tr(
                    f"logit_bias: {token[:40]!r} is no token id below {vocab_size}.",
                    f"logit_bias：{token[:40]!r} 不是小于 {vocab_size} 的词元编号。",
                ),
                "logit_bias",
            )
        found[int(token)] = bias
    return found
