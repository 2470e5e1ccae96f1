"""Where an OpenAI-compatible server is, and how it is asked."""

from __future__ import annotations

from typing import Any

from luhuo.core.config import Config, field


class EndpointConfig(Config):
    """A server with `/chat/completions`: luhuo serve, vLLM, SGLang, llama.cpp, or a hosted one."""

    url: str = field(
        "",
        "Its address up to /v1; empty: the variable OPENAI_BASE_URL.",
        "到 /v1 为止的地址；空：取 OPENAI_BASE_URL。",
    )
    model: str = field(..., "The model's name there.", "模型在该处的名字。", min_length=1)
    key_from: str = field(
        "", "Environment variable that holds the key; empty: none is sent.", "存放密钥的环境变量；空：不发送密钥。"
    )
    concurrency: int = field(8, "Requests at a time.", "同时进行的请求数。", ge=1, le=256)
    tries: int = field(6, "Tries of a request; they wait ever longer.", "每个请求的尝试次数，间隔递增。", ge=1, le=20)
    seconds: float = field(300.0, "Patience with one answer.", "等待单个应答的秒数。", gt=0)
    parameters: dict[str, Any] = field(
        {},
        "Further fields of the request: {top_p: 0.9}; null takes one out: {seed: null}.",
        "请求的其他字段：{top_p: 0.9}；null 表示去掉该字段：{seed: null}。",
    )
