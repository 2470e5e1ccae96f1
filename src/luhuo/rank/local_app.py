"""What applications with a page for the people at this machine share: ranking, the arena, looking through a corpus."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.pages import templates
from luhuo.rank.guard import Guard
from luhuo.serve.app import PAGE as CHAT_PAGE

S = TypeVar("S")
T = TypeVar("T")


def local_app(
    folder: Path, hosts: tuple[str, ...], style: str, body: str = "body.html", script: str = "main.js"
) -> FastAPI:
    """An application that serves a page, its files, and those it shares with the chat page, behind the guard.

    `folder` holds what stands in the page's body, its style and its script; `hosts` are further names that the
    application may be called by.
    """
    app = FastAPI(title="Luhuo", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(LuhuoError, _bad_input)
    app.add_exception_handler(RequestValidationError, _invalid)
    inside = Markup((folder / body).read_text(encoding="utf-8"))
    text = templates("luhuo.rank").get_template("local.html.jinja").render(style=style, script=script, body=inside)

    @app.get("/")
    async def page() -> Response:
        return HTMLResponse(text)

    @app.get("/favicon.ico")
    async def icon() -> Response:
        return RedirectResponse("/chat/icon.svg")

    app.mount("/page", StaticFiles(directory=folder), name="page")
    app.mount("/chat", StaticFiles(directory=CHAT_PAGE), name="chat")
    app.add_middleware(Guard, hosts=hosts)
    return app


class Desk(Generic[S]):
    """Runs work on a file outside of the event loop, one at a time."""

    def __init__(self, store: S) -> None:
        self._store, self._lock = store, threading.Lock()

    async def run(self, work: Callable[[S], T]) -> T:
        """What `work` gives for the file."""

        def locked() -> T:
            with self._lock:
                return work(self._store)

        return await run_in_threadpool(locked)


async def _bad_input(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:4])
    return JSONResponse({"error": tr("The request is not valid. ", "请求无效。") + told}, 422)
