"""What stands between the socket and every endpoint: limits, keys, headers and the log (plain ASGI).

A request's body is read here, to its end and within bounds of size and time, before anything looks at it.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luhuo.core.language import tr
from luhuo.serve.errors import ApiError
from luhuo.serve.house import House
from luhuo.serve.streaming import ClientGone

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::", "")
KEYED = ("/v1/", "/admin/")
KEYED_PATHS = ("/tokenize", "/detokenize", "/metrics", "/feedback", "/openapi.json", "/docs")
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
        "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}
DISCARDED = 16
"""Times the largest size of a request that is read of one that is larger."""
CLIENT_CLOSED = 499
"""What the log says of a request whose client left (nginx's number)."""


class Guard:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, house: House) -> None:
        self._app, self._house = app, house

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Call(self._app, self._house, scope, receive, send).run()


class _Call:
    """One request on its way through the guard."""

    def __init__(self, app: ASGIApp, house: House, scope: Scope, receive: Receive, send: Send) -> None:
        self._app, self._house, self._scope = app, house, scope
        self._receive, self._send = receive, send
        self._headers = Headers(scope=scope)
        self._begin = time.monotonic()
        self._status = 0
        given = self._headers.get("x-request-id", "")
        self._id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        self._note: dict[str, Any] = {}
        self._caller: str | None = None

    async def run(self) -> None:
        self._scope.setdefault("state", {})
        self._scope["state"] |= {"note": self._note}
        try:
            self._check_origin()
            self._find_caller()
            body = await self._body()
            await self._app(self._scope, _replay(body, self._receive), self._sending)
        except ApiError as error:
            await self._refuse(error)
        except (ClientGone, TimeoutError, ConnectionError):
            self._status = CLIENT_CLOSED
        except Exception as error:
            self._note["error"] = f"{type(error).__name__}: {error}"
            if not self._status:
                await self._refuse(
                    ApiError(500, tr("The server failed; its log says why.", "服务器出错，原因见日志。"))
                )
            raise
        finally:
            self._told()

    def _check_origin(self) -> None:
        """No page of another origin may call, and no name that was made to point to this machine."""
        config = self._house.config
        host = _host(self._headers.get("host", ""))
        if config.host in LOOPBACK or config.hosts:
            allowed = {*LOOPBACK, *config.hosts, config.host}
            if host not in allowed:
                message = tr(f"This server is not called “{host[:100]}”.", f"此服务器不叫“{host[:100]}”。")
                raise ApiError(403, message, code="host_not_allowed")
        origin = self._headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != self._headers.get("host", "").lower():
            message = tr("Pages of other origins may not call this server.", "其他来源的网页不能调用此服务器。")
            raise ApiError(403, message, code="origin_not_allowed")

    def _find_caller(self) -> None:
        path = self._scope["path"]
        if path.startswith(KEYED) or path in KEYED_PATHS:
            caller = self._house.keys.find(self._headers.get("authorization"))
            self._scope["state"]["caller"] = caller
            self._caller = caller.config.name

    async def _body(self) -> bytes:
        """The whole body. Raises `ApiError` 413 when it is too large and 408 when it comes too slowly.

        Of a body that is too large more is read, to be forgotten: on a connection that is closed with data unread the
        client's system drops the answer too, and the client sees a broken connection in its place.
        """
        limit, seconds = self._house.config.max_body, self._house.config.body_s
        declared = self._headers.get("content-length", "")
        pieces: list[bytes] = []
        size, more = 0, True
        large = declared.isdigit() and int(declared) > limit
        try:
            async with asyncio.timeout(seconds):
                while more and size <= DISCARDED * limit:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    piece, more = message.get("body", b""), bool(message.get("more_body"))
                    size += len(piece)
                    large = large or size > limit
                    if large:
                        pieces.clear()
                    else:
                        pieces.append(piece)
        except TimeoutError:
            if not large:
                told = tr(f"The request took longer than {seconds:g} s to arrive.", f"请求未在 {seconds:g} 秒内到达。")
                raise ApiError(408, told, headers=_CLOSE) from None
        if large:
            told = tr(f"The request is larger than {limit} bytes.", f"请求超过 {limit} 字节。")
            raise ApiError(413, told, headers=_CLOSE)
        return b"".join(pieces)

    async def _sending(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._id
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        async with asyncio.timeout(self._house.config.stall_s):  # a client that reads nothing holds nothing
            await self._send(message)

    async def _refuse(self, error: ApiError) -> None:
        response = JSONResponse(error.body, error.status, error.headers)
        await response(self._scope, self._receive, self._sending)

    def _told(self) -> None:
        seconds = time.monotonic() - self._begin
        route = getattr(self._scope.get("route"), "path", None) or "other"
        method = self._scope["method"] if self._scope["method"] in _METHODS else "OTHER"
        metrics = self._house.metrics
        labels = {"path": route, "method": method, "status": str(self._status)}
        metrics.count("luhuo_http_requests_total", "Requests by path and status.", **labels)
        metrics.observe("luhuo_http_request_seconds", "Time to the end of an answer.", seconds, path=route)
        client = self._scope.get("client")
        self._house.log.write(
            id=self._id,
            client=client[0] if client else None,
            key=self._caller,
            method=method,
            path=self._scope["path"][:200],
            status=self._status or CLIENT_CLOSED,
            seconds=round(seconds, 4),
            **self._note,
        )


_CLOSE = {"Connection": "close"}
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def _host(value: str) -> str:
    """The name in a Host header, without port and brackets."""
    if value.startswith("["):
        return value[1:].partition("]")[0].lower()
    return value.partition(":")[0].lower()


def _replay(body: bytes, receive: Receive) -> Receive:
    """`receive` for an application that finds the body in one piece, and the connection's end after it."""
    pieces: Iterable[Message] = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def next_message() -> Message:
        return next(pieces, None) or await receive()  # type: ignore[call-overload]

    return next_message
