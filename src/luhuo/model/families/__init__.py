"""One file per published family: its `config.json` and tensor names, both ways.

A family is a module with

- `ARCHITECTURES`: the names in `config.json` it reads; the first is the one it writes unless `write` says another;
- `read(values)`: the fields of our config for a parsed `config.json` (and `family`, where the file of another family
  is to write it: some published names stand for several layouts);
- `write(config)`: the `config.json` of our config;
- `links(config)`: for each of our parameters, the published tensors it is made of (see `links.py`);
- `DEFAULTS`, optional: what the published config class assumes where a file says nothing;
- `CONFIG`, where it is not a decoder: the config class that `read` is for;
- `fit(config, names)`, optional: the config completed by what only the names of the published tensors tell;
- `MODEL_TYPE`, optional: the `model_type` of files that name no architecture; they are read as the first;
- `PREFIX`, optional: what published names begin with in some files and not in others;
- `HEAD`, optional: the output matrix, `lm_head.weight` if not given, which some files hold although it is tied;
- `IGNORED`, optional: a regular expression of published tensors that carry no weight (tables of old versions);
- `OLD_NAMES`, optional: endings of names, and how old files spell them.

docs/adding-a-model.md walks through an example.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Collection, Mapping
from types import ModuleType
from typing import Any

import torch

from luhuo.core.config import nearest
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.config import ModelConfig
from luhuo.model.families.common import stop_ids, stop_value
from luhuo.model.families.links import Link

SHARED = "luhuo_shared_layers"
"""Key of config.json that no other program reads: the weights of all layers are written out (`model.sharing`)."""


@functools.cache
def families() -> dict[str, ModuleType]:
    """All families by name: the modules here that say which architectures they read."""
    modules = {name: importlib.import_module(f"{__name__}.{name}") for _, name, _ in pkgutil.iter_modules(__path__)}
    return {name: module for name, module in sorted(modules.items()) if hasattr(module, "ARCHITECTURES")}


@functools.cache
def _by_architecture() -> dict[str, str]:
    return {architecture: name for name, module in families().items() for architecture in module.ARCHITECTURES}


def read_config(values: Mapping[str, Any], where: object = None) -> Any:
    """Our config (`ModelConfig`, or the family's own class) for a parsed `config.json`. Raises `LuhuoError`."""
    found = values.get("architectures") or _unnamed(values)
    names = [name for name in found if isinstance(name, str)] if isinstance(found, list) else []
    family = next((known for name in names if (known := _by_architecture().get(name))), None)
    if family is None:
        close = nearest(names[0], list(_by_architecture())) if names else None
        raise LuhuoError(
            tr("This architecture is not supported.", "不支持这种模型架构。"),
            expected=tr("one of the table in docs/models.md", "docs/models.md 表中的一种")
            + (tr(f", for instance {close}", f"，例如 {close}") if close else ""),
            found=", ".join(names) or values.get("model_type"),
            where=where,
            fix=tr("docs/adding-a-model.md shows how to add one.", "添加方法见 docs/adding-a-model.md。"),
        )
    module = families()[family]
    try:
        values = {**getattr(module, "DEFAULTS", {}), **values, "architectures": names}
        fields = module.read(values)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, IndexError, AttributeError) as error:
        raise LuhuoError(
            tr("config.json lacks something or holds a value of the wrong kind.", "config.json 缺项或取值类型不对。"),
            found=f"{type(error).__name__}: {error}",
            where=where,
        ) from error
    fields = {"stop_ids": stop_ids(values), "family": family, **fields}
    if SHARED in values:
        fields[SHARED.removeprefix("luhuo_")] = values[SHARED]
    return getattr(module, "CONFIG", ModelConfig).parse(fields, where=str(where))


def _unnamed(values: Mapping[str, Any]) -> list[str]:
    """The architecture of files that name none, by their `model_type`."""
    kind = values.get("model_type")
    return [m.ARCHITECTURES[0] for m in families().values() if kind and getattr(m, "MODEL_TYPE", None) == kind]


def fit(config: Any, names: Collection[str]) -> Any:
    """The config completed by what only the names of the published tensors tell (a pooler, a head of its own)."""
    module = families()[config.family]
    return module.fit(config, names) if hasattr(module, "fit") else config


def write_config(config: Any, dtype: torch.dtype) -> dict[str, Any]:
    """The `config.json` of one of our configs; opens in transformers 4.57 and 5."""
    module = families()[config.family]
    name = str(dtype).removeprefix("torch.")
    return {
        "architectures": [module.ARCHITECTURES[0]],
        "eos_token_id": stop_value(config),
        "pad_token_id": config.pad_id,
        "bos_token_id": config.bos_id,
        **module.write(config),
        **({SHARED: list(config.shared_layers)} if getattr(config, "shared_layers", ()) else {}),
        "dtype": name,
        "torch_dtype": name,
    }


def links(config: Any) -> list[Link]:
    """How each parameter of a model of this config is published."""
    return list(families()[config.family].links(config))
