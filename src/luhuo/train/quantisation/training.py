"""Rounding in a training run: put on a model, switched on, kept up with the weights, and taken off for good."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import nn
from torch.distributed.fsdp import FSDPModule

from luhuo.adapter.attach import attached, merge
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.kernels.eight_bit import eight_bit
from luhuo.model.base import LanguageModel
from luhuo.model.decoder import Decoder
from luhuo.model.eight_bit import EightBitLinear
from luhuo.model.layers import Linear
from luhuo.model.quantised import bits_of, put
from luhuo.train import mesh
from luhuo.train.pieces import Cut, note
from luhuo.train.quantisation.config import Quantisation
from luhuo.train.quantisation.rounding import Rounding, roundings

Model = TypeVar("Model", bound=nn.Module)


class QuantisedTraining:
    """A model whose blocks' matrices are rounded as `config` says from `config.start_step` on.

    Raises `LuhuoError` for what cannot be kept in few bits, and where nothing would be rounded before the end.
    """

    def __init__(self, model: LanguageModel, config: Quantisation, steps: int) -> None:
        _check(model, config, steps)
        self.model, self.config = model, config
        for name in [name for name, _ in model.named_parameters()]:
            if not _is_rounded(name, model):
                continue
            matrix = model.get_submodule(name.removesuffix(".weight"))
            assert isinstance(matrix, Linear)
            try:
                rounding = Rounding(matrix, config)
            except LuhuoError as error:
                raise _located(error, name) from None
            matrix.register_module("rounding", rounding)
            for step in rounding.parameters():
                # Every process has all of them, also where matrices are divided: there are few.
                note(step, Cut(first=not any(mesh.current().place.values())))
        self.matrices = roundings(model)

    def begin(self, step: int) -> None:
        """`step` optimiser steps have been taken, the last one just now or in an earlier run."""
        on = step >= self.config.start_step
        for matrix, rounding in self.matrices.values():
            rounding.on = on
            if on:
                rounding.refresh(matrix, first=step == self.config.start_step)

    def follow(self) -> None:
        """The weights are others than before: averaged ones, or again those of the last step."""
        for matrix, rounding in self.matrices.values():
            if rounding.on:
                rounding.refresh(matrix, first=False)


def _is_rounded(name: str, model: nn.Module) -> bool:
    """Whether a parameter is rounded while it is trained: the blocks' matrices, but not those of experts."""
    return name.startswith("blocks.") and name.endswith(".weight") and bits_of(name, model, 4) is not None


def _check(model: LanguageModel, config: Quantisation, steps: int) -> None:
    kind = next(base for base in type(model).__mro__ if not issubclass(base, FSDPModule))
    if kind is not Decoder:
        raise LuhuoError(
            tr("Only decoders are kept in few bits.", "只有解码器能以低位数保存。"),
            found=kind.__name__,
            where="quantisation",
        )
    if config.start_step >= steps:
        raise LuhuoError(
            tr("Training would end before rounding begins.", "取整尚未开始，训练便已结束。"),
            expected=f"start_step < {steps}",
            found=config.start_step,
            where="quantisation.start_step",
        )
    adapter = attached(model)
    if adapter is not None and not adapter.mergeable:
        raise LuhuoError(
            tr(
                f"{adapter.config.method} cannot be merged into weights, which is what would be rounded.",
                f"{adapter.config.method} 无法并入权重，而取整的正是合并后的权重。",
            ),
            where="adapter, quantisation",
            fix=tr("Use an adapter on matrices, such as lora.", "请使用作用于矩阵的适配器，如 lora。"),
        )
    if not any(_is_rounded(name, model) for name, _ in model.named_parameters()):
        raise LuhuoError(
            tr("There are no matrices of floats to round.", "没有可取整的浮点矩阵。"),
            where="quantisation",
            fix=tr(
                "With an adapter, adapter.base must be fp32 or bf16.", "使用适配器时，adapter.base 须为 fp32 或 bf16。"
            ),
        )


def _located(error: LuhuoError, name: str) -> LuhuoError:
    return LuhuoError(error.problem, expected=error.expected, found=error.found, where=name, fix=error.fix)


@contextmanager
def unrounded(model: nn.Module) -> Iterator[None]:
    """The model computes with its weights as they are, for a while."""
    on = [rounding for _, rounding in roundings(model).values() if rounding.on]
    for rounding in on:
        rounding.on = False
    try:
        yield
    finally:
        for rounding in on:
            rounding.on = True


def settle(model: Model) -> Model:
    """Let a trained model be what it has computed with: its matrices become integers and scales, for good.

    An adapter is merged before. A model that was not trained so stays as it is.
    """
    found = roundings(model)
    if not found:
        return model
    dtype = next(model.parameters()).dtype
    rounded = {name: rounding.rounded(matrix) for name, (matrix, rounding) in found.items()}
    if attached(model) is not None:
        merge(model)
    for name, each in rounded.items():
        matrix, rounding = found[name]
        if rounding.activations:
            owner, _, child = name.rpartition(".")
            setattr(model.get_submodule(owner), child, EightBitLinear(eight_bit(each.q, each.scale), matrix.bias))
        else:
            put(model, f"{name}.weight", each, dtype)
    return model
