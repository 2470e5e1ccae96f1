"""How an OpenAI-compatible endpoint is reached."""

from __future__ import annotations

from typing import Any, Literal

from luhuo.core.config import Config, field


class EndpointConfig(Config):
    """A model behind an OpenAI-compatible HTTP endpoint."""

    url: str = field(
        ...,
        "Address up to the version: http://127.0.0.1:8000/v1.",
        "到版本号为止的地址：http://127.0.0.1:8000/v1。",
        pattern=r"^https?://",
    )
    model: str = field(..., "The model's name there.", "模型在该端点的名称。", min_length=1)
    key_from: str = field("", "Environment variable that holds the key.", "存放密钥的环境变量名。")
    at_once: int = field(8, "Questions under way at a time.", "同时进行的请求数。", ge=1, le=1024)
    tries: int = field(6, "Tries before a question counts as failed.", "请求失败前的尝试次数。", ge=1)
    seconds: float = field(300.0, "Longest time for one answer.", "单次应答的最长秒数。", gt=0)
    limit_name: Literal["max_tokens", "max_completion_tokens"] = field(
        "max_tokens", "What the endpoint calls the most tokens of an answer.", "该端点对回答词元上限的字段名。"
    )
    extra: dict[str, Any] = field({}, "What else is sent with each question.", "随每个请求附带的其他字段。")
