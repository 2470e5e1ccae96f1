"""Putting an adapter on a model, computing without it for a while, and merging it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module

import torch
from torch import nn

from luhuo.adapter.adapter import Adapter
from luhuo.adapter.config import AdapterConfig
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.base import LanguageModel
from luhuo.model.families import links

CLASSES = {
    "lora": "lora:Lora",
    "dora": "dora:Dora",
    "dylora": "dylora:Dylora",
    "vera": "vera:Vera",
    "ia3": "ia3:IA3",
    "houlsby": "bottleneck:Houlsby",
    "pfeiffer": "bottleneck:Pfeiffer",
    "adalora": "adalora:Adalora",
    "prefix": "virtual:VirtualTokens",
    "p-tuning-v2": "virtual:VirtualTokens",
    "prompt": "virtual:VirtualTokens",
    "bitfit": "inplace:BitFit",
    "child-f": "inplace:ChildF",
    "child-d": "inplace:ChildD",
    "fishmask": "inplace:FishMask",
    "full": "inplace:Full",
}
"""Where each method is."""


def attach(model: LanguageModel, config: AdapterConfig, seed: int = 0) -> Adapter:
    """Freeze a model and put a fresh adapter on it; everything random in it comes from `seed`.

    Raises `LuhuoError` for what the model has no place for, or if it has an adapter.
    """
    if attached(model) is not None:
        raise LuhuoError(
            tr("The model has an adapter already.", "模型已带有适配器。"),
            fix=tr("Merge it first.", "请先合并。"),
        )
    model.requires_grad_(False)
    where, _, name = CLASSES[config.method].partition(":")
    adapter: Adapter = getattr(import_module(f"luhuo.adapter.{where}"), name)(model, config, seed)
    for p in adapter.own().values():
        p.requires_grad_(True)
    adapter.extra |= {name: p for name, p in _wanted(model, config.train).items() if name not in adapter.own()}
    for p in adapter.extra.values():
        p.requires_grad_(True)
    adapter.remember()
    model.__dict__["_adapter"] = adapter
    return adapter


def attached(model: nn.Module) -> Adapter | None:
    """The adapter of a model, or of the model inside another module; None without one."""
    for module in model.modules():
        found = module.__dict__.get("_adapter")
        if isinstance(found, Adapter):
            return found
    return None


def needed(model: nn.Module) -> Adapter:
    """The adapter of a model. Raises `LuhuoError` without one."""
    adapter = attached(model)
    if adapter is None:
        raise LuhuoError(tr("The model has no adapter.", "模型没有适配器。"))
    return adapter


@contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """The model as it was before the adapter, without gradients.

    Raises `LuhuoError` for a method that moves the whole model and has no copy of what it was (`policy.reference`).
    """
    adapter = needed(model)
    if adapter.whole and not adapter.originals:
        raise LuhuoError(
            tr(
                "The model's own weights have moved: there is nothing to switch off.", "模型自身权重已改动，无从关闭。"
            ),
            found=adapter.config.method,
            fix=tr("Hold a copy of the model as it was.", "请另存一份原来的模型。"),
        )
    with torch.no_grad():
        adapter.put(on=False)
        trained = adapter.swap(adapter.originals)
        try:
            yield
        finally:
            adapter.swap(trained)
            adapter.put(on=True)


def merge(model: nn.Module) -> Callable[[], None]:
    """Let the model's own weights do what its adapter does, and take that off; what is returned undoes it exactly.

    Raises `LuhuoError` for a method whose work no weight can do, and for weights kept in few bits.
    """
    adapter = needed(model)
    if getattr(adapter.model.config, "shared_layers", ()):
        raise LuhuoError(
            tr("Adapters do not merge into layers that share weights.", "适配器不能合并进共享权重的层。"),
            fix=tr("Use the adapter attached.", "请以附加方式使用该适配器。"),
        )
    undo = adapter.merge()
    adapter.leave()

    def unmerge() -> None:
        undo()
        adapter.model.__dict__["_adapter"] = adapter

    return unmerge


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """The model with its adapter merged, as fast as one without: for generating between optimiser steps."""
    unmerge = merge(model)
    try:
        yield
    finally:
        unmerge()


def _wanted(model: LanguageModel, names: list[str]) -> dict[str, nn.Parameter]:
    """The parameters of the published modules whose names end in one of `names`, by our name. Raises `LuhuoError`."""
    found: dict[str, nn.Parameter] = {}
    parameters = dict(model.named_parameters())
    table = {link.ours: link.theirs for link in links(model.config)}  # type: ignore[attr-defined]
    for name in names:
        mine = {
            ours: parameters[ours]
            for ours, theirs in table.items()
            if ours in parameters and any(n.rpartition(".")[0].endswith(name) for n in theirs)
        }
        if not mine:
            raise LuhuoError(
                tr("There is no such module to train.", "没有可训练的此类模块。"),
                expected=", ".join(sorted({part for t in table.values() for n in t for part in n.split(".")})[:40]),
                found=name,
                where="adapter.train",
            )
        found |= mine
    return found
