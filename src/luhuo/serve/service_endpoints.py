"""What is no generation: models, health, metrics, the page's questions, feedback, and loading models."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from luhuo.core.language import tr
from luhuo.serve.adapters import allowed_folder, base_of, with_adapter
from luhuo.serve.adapters import unload as unload_adapter
from luhuo.serve.errors import ApiError, draining
from luhuo.serve.feedback import FeedbackBody
from luhuo.serve.house import House, caller_of, house_of
from luhuo.serve.schemas import LoadAdapterBody, LoadBody, UnloadAdapterBody
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

        return Served.of(name, open_by_name(body.model, house.config.dtype, house.config.device), body.model)

    if any(served.name == name for served in house.models):
        raise ApiError(409, tr("There is a model of this name already.", "已有同名模型。"), param="name")
    served = await house.compute(open_model)
    house.models.add(served)
    return _described(served)


@router.delete("/admin/models/{name:path}")
async def unload(request: HttpRequest, name: str) -> dict[str, Any]:
    """Serve a model no longer; what runs on it is finished."""
    house = _administered(request)
    served = house.models.find(name)
    if served.adapter is not None:
        await unload_adapter(house.models, served)
        return {"id": name, "object": "model", "deleted": True}
    if house.models.children(served):
        raise ApiError(409, tr("The model has adapters: unload them first.", "请先卸载该模型的适配器。"), param="name")
    if sum(one.parent is None for one in house.models) == 1:
        raise ApiError(409, tr("The last model cannot be unloaded.", "不能卸载最后一个模型。"), param="name")
    house.models.remove(name)
    await house.compute(lambda: served.close(drain=True))
    return {"id": name, "object": "model", "deleted": True}


@router.post("/v1/load_lora_adapter")
async def load_lora_adapter(request: HttpRequest, body: LoadAdapterBody) -> dict[str, Any]:
    """Load a LoRA adapter from the server's folder of adapters, and serve it under a name."""
    house, name = _administered(request), body.lora_name
    folder, base = (
        allowed_folder(house.config.adapter_root, body.lora_path),
        base_of(house.models, body.base_model_name),
    )
    if any(served.name == name for served in house.models):
        raise ApiError(409, tr("There is a model of this name already.", "已有同名模型。"), param="lora_name")
    if sum(served.adapter is not None for served in house.models) >= house.config.max_adapters:
        most = house.config.max_adapters
        raise ApiError(409, tr(f"{most} adapters are loaded, the most.", f"已加载 {most} 个适配器，达到上限。"))
    served = await house.compute(lambda: with_adapter(base, name, folder))
    try:
        house.models.add(served)
    except ApiError:  # a model of this name came meanwhile
        base.writer.adapters.unload(name)
        raise
    return _described(served)


@router.post("/v1/unload_lora_adapter")
async def unload_lora_adapter(request: HttpRequest, body: UnloadAdapterBody) -> dict[str, Any]:
    """Serve an adapter no longer; answers that are being written with it are finished."""
    house = _administered(request)
    served = house.models.find(body.lora_name)
    if served.adapter is None:
        raise ApiError(404, tr("This is no adapter.", "这不是适配器。"), param="lora_name", code="model_not_found")
    await unload_adapter(house.models, served)
    return {"id": body.lora_name, "object": "model", "deleted": True}


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
        "parent": served.parent.name if served.parent else None,
        "max_model_len": served.context,
        "tasks": tasks,
    }
