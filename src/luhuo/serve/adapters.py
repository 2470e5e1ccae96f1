"""LoRA adapters of a server: each is a model of its own by name, and shares engine and batch with its base."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from luhuo.adapter.files import is_adapter
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.serve.errors import ApiError, wrong
from luhuo.serve.served import Models, Served

PAUSE_S = 0.02
"""Between two looks at whether an adapter is still in use."""


def with_adapter(base: Served, name: str, folder: str | Path) -> Served:
    """A model that answers with the base and an adapter. Raises `LuhuoError` for one that cannot share its batches."""
    loaded = base.writer.adapters.load(name, folder, base=base.reference)
    return Served(name, engine=base.engine, worker=base.worker, adapter=loaded, parent=base)


def load_named(models: Models, words: Sequence[str]) -> None:
    """Load and serve the adapters of a command line, `NAME=DIR` or `MODEL:NAME=DIR`. Raises `LuhuoError`."""
    for word in words:
        left, equals, folder = word.partition("=")
        model, _, name = left.rpartition(":")
        if not equals or not name or not folder or "/" in left:
            raise LuhuoError(
                tr("An adapter needs a name.", "适配器需要名称。"),
                expected=tr("NAME=DIR, or MODEL:NAME=DIR", "名称=目录，或 模型:名称=目录"),
                found=word,
            )
        if any(one.name == name for one in models):
            raise LuhuoError(tr("Two models have the same name.", "两个模型同名。"), found=name)
        try:
            models.add(with_adapter(base_of(models, model or None), name, folder))
        except ApiError as error:
            raise LuhuoError(error.message, found=word) from None


def base_of(models: Models, name: str | None) -> Served:
    """The model that an adapter is put on: the one named, or the only one that writes. Raises `ApiError`."""
    if name is not None:
        found = models.find(name)
        if found.parent is not None or found.engine is None:
            raise wrong(tr(f"“{name}” takes no adapters.", f"“{name}”不支持加载适配器。"), "base_model_name")
        return found
    bases = [one for one in models if one.engine is not None and one.parent is None]
    if len(bases) != 1:
        names = ", ".join(one.name for one in bases)
        raise wrong(tr(f"Say which model: {names}.", f"请指明模型：{names}。"), "base_model_name")
    return bases[0]


def allowed_folder(root: Path | None, path: str) -> Path:
    """The folder of an adapter that a request names, which must lie below `root`. Raises `ApiError` 403, or 400.

    Where it leads is asked, so that neither `..` nor a link leads out.
    """
    if root is None:
        raise ApiError(
            403,
            tr(
                "This server loads no adapters over HTTP (it was started without --adapter-root).",
                "此服务器不通过 HTTP 加载适配器（启动时未设置 --adapter-root）。",
            ),
            param="lora_path",
            code="adapters_off",
        )
    try:
        inside, found = root.resolve(), (root / path).resolve()
    except (OSError, RuntimeError, ValueError):  # a ring of links, or a name that no system has
        found = inside = root
    if found == inside or not found.is_relative_to(inside):
        raise ApiError(
            403,
            tr(
                "Adapters are loaded from below the folder of --adapter-root only.",
                "只能加载 --adapter-root 之下的适配器。",
            ),
            param="lora_path",
            code="path_not_allowed",
        )
    if not is_adapter(found):
        raise wrong(tr("There is no adapter here.", "这里没有适配器。"), "lora_path")
    return found


async def unload(models: Models, served: Served) -> None:
    """Serve an adapter no longer: new requests find it gone, those that run are finished, then it is forgotten."""
    models.remove(served.name)
    adapters, adapter = served.writer.adapters, served.adapter
    assert adapter is not None
    while True:
        while adapters.in_use(adapter):
            await asyncio.sleep(PAUSE_S)
        try:
            await asyncio.to_thread(adapters.unload, adapter.name)
            return
        except LuhuoError:
            if not adapters.in_use(adapter):  # else a request came in that was made before
                raise
