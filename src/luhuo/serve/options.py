"""From the fields of a request to the engine's settings."""

from __future__ import annotations

from typing import Any

from luhuo.inference.sampling import Sampling
from luhuo.serve.errors import not_offered, wrong
from luhuo.serve.schemas import ChatBody, CompletionBody, Options, Penalised, ResponsesBody

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
    if isinstance(body, CompletionBody):
        values |= {"logprobs": body.logprobs}
    return Sampling.parse({name: value for name, value in values.items() if value is not None})


def most_tokens(body: Options) -> int | None:
    """The limit of the answer that the request names, whatever its field is called."""
    if isinstance(body, ChatBody):
        return body.max_completion_tokens or body.max_tokens
    if isinstance(body, CompletionBody):
        return body.max_tokens
    return body.max_output_tokens if isinstance(body, ResponsesBody) else None


def _penalised(body: Penalised, vocab_size: int) -> dict[str, Any]:
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    values: dict[str, Any] = {
        "n": body.n,
        "stop": tuple(text for text in stop if text) or None,
        "ignore_eos": body.ignore_eos,
        "presence_penalty": body.presence_penalty or None,
        "frequency_penalty": body.frequency_penalty or None,
        "min_tokens": body.min_tokens or None,
        "logit_bias": _bias(body.logit_bias, vocab_size) if body.logit_bias else None,
    }
    for name, value in values.items():
        if value is not None and name not in Sampling.model_fields:
            raise not_offered(name, name)
    return values


def _bias(given: dict[str, float], vocab_size: int) -> dict[int, float]:
    """Token ids and what is added to their logits. Raises `ApiError` for what is no token."""
    found = {}
    for token, bias in given.items():
        if not (token.isascii() and token.isdigit() and len(token) < 10 and int(token) < vocab_size):
            raise wrong(f"logit_bias: {token[:40]!r} is no token id below {vocab_size}.", "logit_bias")
        found[int(token)] = bias
    return found
