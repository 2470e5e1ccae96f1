"""Errors of the HTTP API, in the shape that OpenAI's clients read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luhuo.core.language import tr


class ApiError(Exception):
    """An answer that is an error: HTTP status, a message for a person, OpenAI's `type`, `param` and `code`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})
        super().__init__(message)

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(self.status)
        kind = kind or ("server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def unknown_model(name: str, known: list[str]) -> ApiError:
    """The model that was asked for is not served here."""
    served = ", ".join(known)
    return ApiError(
        404,
        tr(f"The model “{name}” is not served here. Served: {served}.", f"这里没有模型“{name}”。可用：{served}。"),
        param="model",
        code="model_not_found",
    )


def too_long(tokens: int, context: int, param: str) -> ApiError:
    """A prompt that leaves no room for an answer; it is never cut silently."""
    return ApiError(
        400,
        tr(
            f"This model's context is {context} tokens, and the prompt alone has {tokens}. Shorten it.",
            f"该模型的上下文为 {context} 个词元，而提示已有 {tokens} 个。请缩短提示。",
        ),
        param=param,
        code="context_length_exceeded",
    )


def busy(seconds: float, message: str, code: str = "rate_limit_exceeded") -> ApiError:
    """Too many requests; `seconds` until it is worth another try."""
    return ApiError(429, message, code=code, headers={"Retry-After": str(max(1, round(seconds + 0.5)))})


def draining() -> ApiError:
    """The server finishes what runs and takes nothing new."""
    return ApiError(
        503,
        tr("The server is shutting down.", "服务器正在关闭。"),
        code="shutting_down",
        headers={"Retry-After": "5", "Connection": "close"},
    )


def timed_out(seconds: float) -> ApiError:
    """The answer took longer than the server allows."""
    return ApiError(
        504,
        tr(f"The request took longer than {seconds:g} s and was stopped.", f"请求超过 {seconds:g} 秒，已被停止。"),
        code="timeout",
        headers={"x-should-retry": "false"},
    )


def failed(why: str | None) -> ApiError:
    """The engine gave an answer up: for a reason that lies in the request, or for one that its log tells."""
    if why:
        return ApiError(400, why, code="generation_failed")
    return ApiError(500, tr("The model failed while it was generating.", "模型在生成时出错。"))


def not_offered(what: str, param: str | None = None) -> ApiError:
    """Something of OpenAI's API that this server, or this model, does not have."""
    return ApiError(
        400, tr(f"Not supported here: {what}.", f"这里不支持：{what}。"), param=param, code="unsupported_parameter"
    )


def wrong(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A request that cannot be understood."""
    return ApiError(400, message, param=param, code=code)
