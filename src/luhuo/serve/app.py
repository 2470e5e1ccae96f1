"""The application: endpoints behind the guard, and every error in one shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.serve import chat_endpoint, embeddings_endpoint, responses_endpoint, service_endpoints, text_endpoints
from luhuo.serve.errors import ApiError
from luhuo.serve.guard import Guard
from luhuo.serve.house import House

PAGE = Path(__file__).parent / "page"


def create_app(house: House) -> FastAPI:
    """The ASGI application of a server."""
    app = FastAPI(title="Luhuo", version=version("luhuo"), docs_url=None, redoc_url=None)
    app.state.house = house
    for part in (chat_endpoint, text_endpoints, responses_endpoint, embeddings_endpoint, service_endpoints):
        app.include_router(part.router)
    _add_page(app)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(LuhuoError, _bad_input)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(Guard, house=house)
    return app


def _add_page(app: FastAPI) -> None:
    """Serve the chat page's files, each at its own path, so that a wrong method at an endpoint stays a 405."""
    for file in sorted(PAGE.iterdir()):
        if file.is_dir():
            app.mount(f"/{file.name}", _Files(directory=file), name=f"page-{file.name}")
        elif file.name == "index.html":
            app.add_api_route("/", _file(file), include_in_schema=False)
        else:
            app.add_api_route(f"/{file.name}", _file(file), include_in_schema=False)


class _Files(StaticFiles):
    """Files that a browser asks about each time, so that page and server never differ in version."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _file(path: Path) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return FileResponse(path, headers={"Cache-Control": "no-cache"})

    return send


def _answer(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body, error.status, error.headers)


async def _api_error(_: HttpRequest, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return _answer(error)


async def _bad_input(_: HttpRequest, error: Exception) -> JSONResponse:
    return _answer(ApiError(400, str(error)))


async def _invalid(_: HttpRequest, error: Exception) -> JSONResponse:
    """Each mistake with the field it is in; what was sent is not repeated."""
    assert isinstance(error, RequestValidationError)
    told, first = [], None
    for mistake in error.errors()[:8]:
        place = ".".join(str(part)[:100] for part in mistake["loc"] if part != "body")
        first = first or place or None
        told.append(f"{place}: {mistake['msg']}" if place else str(mistake["msg"]))
    message = tr("The request is not valid. ", "请求无效。") + "; ".join(told)
    return _answer(ApiError(400, message.encode("utf-8", "replace").decode(), param=_sound(first)))


def _sound(text: str | None) -> str | None:
    return None if text is None else text.encode("utf-8", "replace").decode()


async def _http_error(request: HttpRequest, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    words = {
        404: tr(f"There is nothing at {path}.", f"{path} 不存在。"),
        405: tr(f"{request.method} is not possible at {path}.", f"{path} 不支持 {request.method}。"),
    }
    message = words.get(error.status_code, str(error.detail))
    return _answer(ApiError(error.status_code, _sound(message) or "", headers=error.headers))
