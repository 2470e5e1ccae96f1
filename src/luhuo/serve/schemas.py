"""The bodies of requests: OpenAI's fields, and a few of our own that other servers have too.

Unknown fields are errors that name the field: a misspelt option is never ignored. Fields of OpenAI's that only concern
OpenAI's own service (`user`, `metadata`, `store`, …) are taken and change nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from luhuo.core.language import tr

MAX_DEPTH = 64
"""Nesting of a request's body."""
MAX_CHOICES = 128

Stop = str | Annotated[list[str], Field(max_length=16)]
Token = Annotated[int, Field(ge=0, le=2**31 - 1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]


class Body(BaseModel):
    """Base of all bodies: strict about names, and free of text that is no Unicode."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _sound(cls, value: Any) -> Any:
        check_sound(value)
        return value


def check_sound(value: Any, depth: int = 0) -> None:
    """Raise `ValueError` for lone surrogates, which no tokenizer can encode, and for absurd nesting."""
    if depth > MAX_DEPTH:
        raise ValueError(tr(f"nested deeper than {MAX_DEPTH}", f"嵌套超过 {MAX_DEPTH} 层"))
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            raise ValueError(tr("text with half a surrogate pair", "文本含有不成对的代理字符"))
    elif isinstance(value, dict):
        for key, item in value.items():
            check_sound(key, depth + 1)
            check_sound(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            check_sound(item, depth + 1)


class StreamOptions(Body):
    """What a stream carries beside the answer."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Options(Body):
    """How an answer is generated; `sampling.py` turns these into the engine's settings."""

    model: Annotated[str, Field(max_length=512)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stream: bool | None = None
    top_k: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.05, le=20)] | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class Penalised(Options):
    """What chat and completions have in common beyond `Options`."""

    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stop: Stop | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)] | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool | None = None
    min_tokens: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None


class ChatBody(Penalised):
    """POST /v1/chat/completions."""

    messages: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=4096)]
    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: dict[str, Any] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class CompletionBody(Penalised):
    """POST /v1/completions."""

    prompt: (
        str
        | Annotated[list[Token], Field(min_length=1)]
        | Annotated[list[str], Field(min_length=1, max_length=256)]
        | Annotated[list[Annotated[list[Token], Field(min_length=1)]], Field(min_length=1, max_length=256)]
    )
    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = 16
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None


class ResponsesBody(Options):
    """POST /v1/responses, for text."""

    input: str | Annotated[list[dict[str, Any]], Field(min_length=1, max_length=4096)]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    text: dict[str, Any] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    previous_response_id: str | None = None
    background: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    include: list[str] | None = None
    reasoning: dict[str, Any] | None = None


class EmbeddingsBody(Body):
    """POST /v1/embeddings."""

    model: Annotated[str, Field(max_length=512)]
    input: str | Annotated[list[str], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None


class TokenizeBody(Body):
    """POST /tokenize: a text, or the messages of a chat as the model would read them."""

    model: Annotated[str, Field(max_length=512)]
    prompt: str | None = None
    messages: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=4096)] | None = None
    add_special_tokens: bool = True
    add_generation_prompt: bool = True
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None


class DetokenizeBody(Body):
    """POST /detokenize."""

    model: Annotated[str, Field(max_length=512)]
    tokens: Annotated[list[Token], Field(max_length=1_000_000)]


class LoadBody(Body):
    """POST /admin/models."""

    model: Annotated[str, Field(min_length=1, max_length=1024)]
    name: Annotated[str, Field(min_length=1, max_length=256)] | None = None


class LoadAdapterBody(Body):
    """POST /v1/load_lora_adapter, as vLLM has it. The path is below the server's folder of adapters."""

    lora_name: Annotated[str, Field(min_length=1, max_length=256)]
    lora_path: Annotated[str, Field(min_length=1, max_length=1024)]
    base_model_name: Annotated[str, Field(max_length=512)] | None = None


class UnloadAdapterBody(Body):
    """POST /v1/unload_lora_adapter, as vLLM has it; the number changes nothing."""

    lora_name: Annotated[str, Field(min_length=1, max_length=256)]
    lora_int_id: int | None = None
