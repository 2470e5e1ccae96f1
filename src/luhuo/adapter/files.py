"""Adapters on disk: `adapter_config.json` and `adapter_model.safetensors`, as peft writes and reads them.

Methods that peft does not have are kept in the same two files, under their own name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from luhuo.adapter.adapter import Adapter
from luhuo.adapter.attach import attach, needed
from luhuo.adapter.config import AdapterConfig
from luhuo.adapter.layouts import config_of
from luhuo.adapter.matrices import fill
from luhuo.core.atomic import atomic_path, write_json
from luhuo.core.digest import file_digest, table_digest
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.references import resolve
from luhuo.files.safetensors import Safetensors
from luhuo.files.safetensors_write import save_file
from luhuo.model.base import LanguageModel
from luhuo.model.decoder import Decoder
from luhuo.model.families import links
from luhuo.model.weights import weight_files

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What peft puts in front of every published name, with exceptions."""
OTHER_PREFIX = {"vera_A": "base_model.", "vera_B": "base_model.", "prompt_embeddings": ""}
BASE_KEY = "luhuo.base"
"""Key in the weights' metadata that holds the digest of the model they were trained on."""
FORMAT_KEY = "luhuo.base.dtype"
"""The same for the number format in which that model was kept."""


def save(model: nn.Module, folder: str | Path, extra: Mapping[str, Tensor] | None = None) -> None:
    """Write the adapter of a model; `extra` are further tensors by published name, such as a head of a reward model.

    The config comes last, so that a half-written folder has none.
    """
    adapter, root = needed(model), Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    tensors = adapter.tensors() | _extra(adapter) | dict(extra or {})
    held = {
        OTHER_PREFIX.get(name, PREFIX) + name: tensor.detach().to("cpu").contiguous()
        for name, tensor in sorted(tensors.items())
    }
    with atomic_path(root / WEIGHTS) as temporary:
        told = {BASE_KEY: base_digest(adapter.base), FORMAT_KEY: adapter.config.base}
        save_file(held, temporary, {"format": "pt", **told})
    values = {
        "base_model_name_or_path": adapter.base or None,
        "task_type": "CAUSAL_LM" if isinstance(adapter.model, Decoder) else None,
        "inference_mode": True,
        **adapter.layout(),
    }
    whole = sorted({*adapter.config.train, *(name.removesuffix(".weight") for name in extra or {})})
    write_json(root / CONFIG, values | ({"modules_to_save": whole} if whole else {}))


def load(model: LanguageModel, folder: str | Path, *, base: str = "") -> dict[str, Tensor]:
    """Attach the adapter of a folder to its base; returns tensors that are of no part of this model (heads).

    `base` is the reference that `model` was loaded from. Raises `LuhuoError` if the adapter does not fit, or says that
    it was trained on other weights.
    """
    root = resolve(str(folder)).path
    config = read_config(root)
    file = Safetensors(root / WEIGHTS)
    wanted, found = file.metadata.get(BASE_KEY), base_digest(base)
    if wanted and found and wanted != found:
        raise LuhuoError(
            tr("The adapter was trained on another model.", "该适配器是在另一个模型上训练的。"),
            expected=f"{read_values(root).get('base_model_name_or_path')}, sha256 {wanted[:16]}",
            found=f"{base}, sha256 {found[:16]}",
            where=root,
            fix=tr("Name the model it was trained on.", "请指定训练它时的模型。"),
        )
    tensors = {name.removeprefix(PREFIX).removeprefix("base_model."): file.tensor(name) for name in file.tensors}
    modules = {n.rpartition(".")[0] for link in links(model.config) for n in link.theirs}  # type: ignore[attr-defined]
    here = [name for name in config.train if any(module.endswith(name) for module in modules)]
    kept = file.metadata.get(FORMAT_KEY, config.base)
    adapter = attach(model, config.model_copy(update={"train": here, "base": kept}))
    adapter.base = base
    mine = {name: tensors.pop(name) for name in list(tensors) if adapter.owns(name)}
    adapter.load(mine)
    _take_extra(adapter, {name: tensors.pop(name) for name in _extra(adapter) if name in tensors})
    return tensors


def read_values(root: Path) -> dict[str, Any]:
    """The parsed adapter_config.json. Raises `LuhuoError` if it is not there or no JSON object."""
    file = root / CONFIG
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LuhuoError(tr("There is no adapter here.", "这里没有适配器。"), expected=CONFIG, where=root) from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LuhuoError(tr("This is not valid JSON.", "这不是合法的 JSON。"), found=str(error), where=file) from None
    if not isinstance(values, dict):
        raise LuhuoError(tr("This is not an object.", "这不是 JSON 对象。"), found=type(values).__name__, where=file)
    return values


def read_config(root: Path) -> AdapterConfig:
    """The config of a saved adapter. Raises `LuhuoError` for a method or an option that is not read."""
    return config_of(read_values(root), root / CONFIG)


def base_format(root: Path) -> str:
    """The number format in which the model was kept that an adapter was trained on: fp32, bf16, int8 or int4."""
    return Safetensors(root / WEIGHTS).metadata.get(FORMAT_KEY, "fp32")


def is_adapter(path: str | Path) -> bool:
    """Whether a folder holds an adapter."""
    return (Path(path) / CONFIG).is_file()


def base_digest(reference: str) -> str:
    """A digest of the weight files of a model, or of its one file; empty for an empty reference."""
    if not reference:
        return ""
    path = resolve(reference).path
    if is_adapter(path):
        return file_digest(path / WEIGHTS)
    files = weight_files(path) if path.is_dir() else [path]
    return table_digest({file.name: {"sha256": file_digest(file)} for file in files})


def _beside(adapter: Adapter) -> dict[str, nn.Parameter]:
    """The modules that are trained whole beside the method."""
    return adapter.extra if adapter.config.train else {}


def _extra(adapter: Adapter) -> dict[str, Tensor]:
    """The model's own trained parameters by published name."""
    table = {link.ours: link for link in links(adapter.model.config)}  # type: ignore[attr-defined]
    return {
        theirs: part
        for name, p in _beside(adapter).items()
        for theirs, part in zip(table[name].theirs, table[name].split(p.detach()), strict=True)
    }


@torch.no_grad()
def _take_extra(adapter: Adapter, found: Mapping[str, Tensor]) -> None:
    table = {link.ours: link for link in links(adapter.model.config)}  # type: ignore[attr-defined]
    fill(_extra(adapter), found)
    for name, p in _beside(adapter).items():
        p.copy_(table[name].join([found[theirs] for theirs in table[name].theirs]))
