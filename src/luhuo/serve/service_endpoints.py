"""What is no generation: models, health, metrics, the page's questions, feedback, and loading models."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from luhuo.core.language import tr
from luhuo.serve.errors import ApiError, draining
from luhuo.serve.feedback import FeedbackBody
from luhuo.serve.house import House, caller_of, house_of
from luhuo.serve.schemas import LoadBody
from luhuo.serve.served import Served, named

router = APIRouter()


@router.get("/v1/models")
async def models(request: HttpRequest) -> dict[str, Any]:
    """The models that are served."""
    return {"object": "list", "data": [_described(served) for served in house_of(request).models]}


@router.get("/v1/models/{name:path}")
async def model(request: HttpRequest, name: str) -> dict[str, Any]:
    """One model."""
    return _described(house_of(request).models.find(name))


@router.get("/health")
async def health(request: HttpRequest) -> Response:
    """200 while the server takes requests, 503 while it shuts down."""
    house = house_of(request)
    if house.admission.draining:
        return JSONResponse({"status": "draining"}, 503, {"Retry-After": "5"})
    return JSONResponse({"status": "ok"})


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: HttpRequest) -> Response:
    """Figures for Prometheus."""
    return PlainTextResponse(house_of(request).metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/page/config")
async def page_config(request: HttpRequest) -> dict[str, Any]:
    """What the chat page may offer. Names of models are told only to those who may use them."""
    house = house_of(request)
    listed = [] if house.keys.required else [_described(served) for served in house.models]
    return {
        "version": version("luhuo"),
        "models": listed,
        "feedback": house.feedback is not None,
        "key_required": house.keys.required,
    }


@router.post("/feedback", status_code=201)
async def feedback(request: HttpRequest, body: FeedbackBody) -> dict[str, str]:
    """Keep a thumb, or a choice between two answers."""
    house = house_of(request)
    kept = house.feedback
    if kept is None:
        raise ApiError(404, tr("This server keeps no feedback.", "此服务器不接收反馈。"), code="feedback_off")
    if house.admission.draining:
        raise draining()
    await house.prepare(lambda: kept.add(body))
    return {"status": "kept"}


@router.post("/admin/models", status_code=201)
async def load(request: HttpRequest, body: LoadBody) -> dict[str, Any]:
    """Load another model, from this machine's disk or a reference, and serve it."""
    house = _administered(request)
    name = body.name or named([body.model])[0][0]

    def open_model() -> Served:
        from luhuo.adapter.open import open_model as open_by_name

        return Served.of(name, open_by_name(body.model, house.config.dtype, house.config.device))

    if any(served.name == name for served in house.models):
        raise ApiError(409, tr("There is a model of this name already.", "已有同名模型。"), param="name")
    served = await house.compute(open_model)
    house.models.add(served)
    return _described(served)


@router.delete("/admin/models/{name:path}")
async def unload(request: HttpRequest, name: str) -> dict[str, Any]:
    """Serve a model no longer; what runs on it is finished."""
    house = _administered(request)
    if len(list(house.models)) == 1:
        raise ApiError(409, tr("The last model cannot be unloaded.", "不能卸载最后一个模型。"), param="name")
    served = house.models.remove(name)
    await house.compute(lambda: served.close(drain=True))
    return {"id": name, "object": "model", "deleted": True}


def _administered(request: HttpRequest) -> House:
    """The server, for an administrator. Raises `ApiError` 403 for others."""
    if not caller_of(request).config.admin:
        raise ApiError(403, tr("This needs an administrator's key.", "此操作需要管理员密钥。"), code="admin_only")
    return house_of(request)


def _described(served: Served) -> dict[str, Any]:
    tasks = (["chat"] if served.chats else []) + (["completion"] if served.engine else ["embedding"])
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "luhuo",
        "max_model_len": served.context,
        "tasks": tasks,
    }
