"""Server-sent events, and noticing that the client has gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from luhuo.serve.lines import json_line

T = TypeVar("T")

KEEP_ALIVE_S = 15.0
"""A comment is sent when nothing else was for so long: proxies close what is silent."""
DONE = "data: [DONE]\n\n"


class ClientGone(Exception):
    """The client closed the connection; nobody waits for the answer."""


def event(value: Any, name: str | None = None) -> str:
    """One event of a stream."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json_line(value)}\n\n"


async def unless_gone(request: HttpRequest, work: Awaitable[T]) -> T:
    """The result of `work`. Raises `ClientGone`, with `work` cancelled, when the client leaves before."""
    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request.receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        for one in (task, watch):
            if not one.done():
                one.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await one


class EventStream(Response):
    """A response that sends events as they come; `close` runs however it ends."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], close: Callable[[bool], None]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events, self._close, self._sent = events, close, 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        whole = False
        sender = asyncio.ensure_future(self._send(send))
        watch = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({sender, watch}, return_when=asyncio.FIRST_COMPLETED)
            if sender.done():
                sender.result()
                whole = True
        finally:
            for one in (sender, watch):
                if not one.done():
                    one.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await one
            self._close(whole)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        self._sent = asyncio.get_running_loop().time()
        pulse = asyncio.ensure_future(self._keep_alive(send))
        try:
            async for text in self._events:
                await self._write(send, text)
        finally:
            pulse.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await pulse
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, send: Send, text: str) -> None:
        self._sent = asyncio.get_running_loop().time()
        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

    async def _keep_alive(self, send: Send) -> None:
        """Comments beside the events, which are not to have a task or a timer each."""
        clock = asyncio.get_running_loop().time
        while True:
            silent = clock() - self._sent
            if silent < KEEP_ALIVE_S:
                await asyncio.sleep(KEEP_ALIVE_S - silent)
            else:
                await self._write(send, ": waiting\n\n")


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
