"""What stands between the socket and the page: who may call, how much may be sent, and the page's policy (ASGI)."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luhuo.core.language import tr
from luhuo.serve.guard import HEADERS, LOOPBACK

MOST_BYTES = 1 << 16
"""Of a request's body: a judgement is short."""


class Guard:
    """Wraps the application. `hosts` are the names it may be called by, beside those of this machine."""

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...]) -> None:
        self._app, self._hosts = app, {*LOOPBACK, *hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    added.setdefault(name, value)
                added.setdefault("Cache-Control", "no-cache")
            await send(message)

        refused = self._refused(headers)
        if refused is None and scope["method"] == "POST":
            body = await _body(receive)
            if body is None:
                refused = JSONResponse({"error": tr("The request is too large.", "请求过大。")}, 413)
            else:
                receive = _replay(body, receive)
        await (refused or self._app)(scope, receive, sending)

    def _refused(self, headers: Headers) -> JSONResponse | None:
        """No page of another origin may judge, and no name that was made to point to this machine."""
        given = headers.get("host", "")
        name = urlsplit(f"//{given}").hostname or ""
        if name not in self._hosts:
            message = tr(f"This page is not called “{name[:100]}”.", f"此页面不叫“{name[:100]}”。")
            return JSONResponse({"error": message}, 403)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != given.lower():
            return JSONResponse({"error": tr("Other pages may not call this one.", "其他网页不能调用此页面。")}, 403)
        return None


async def _body(receive: Receive) -> bytes | None:
    """The whole body, or None where it is too large."""
    held = b""
    while True:
        message = await receive()
        held += message.get("body", b"")
        if len(held) > MOST_BYTES:
            return None
        if not message.get("more_body"):
            return held


def _replay(body: bytes, rest: Receive) -> Receive:
    """The body once, then what the connection says: an answer that streams waits for its end."""
    given = False

    async def receive() -> Message:
        nonlocal given
        if given:
            return await rest()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
