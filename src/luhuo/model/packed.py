"""Checkpoints published in small floats, seen as the plain tensors they stand for.

gpt-oss has its experts in MXFP4, DeepSeek-V3, R1, Kimi-K2 and MiniMax-M2 have their matrices in FP8 with a scale for
each tile. A tensor is unpacked when it is read; nothing else of the loading knows about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.kernels.block_floats import dequantise_fp8, dequantise_mxfp4
from luhuo.model.factorised import METHOD as LOW_RANK
from luhuo.model.factorised import FactorisedWeights
from luhuo.model.matrices import Activations, Float8
from luhuo.model.quantised_files import METHODS, read_rounded
from luhuo.model.weights import Weights

TILE = (128, 128)
"""Rows and columns under one scale, if the config does not say."""
SCALE = "_scale_inv"


def unpacked(weights: Weights, values: Mapping[str, Any]) -> Weights:
    """The plain tensors of a checkpoint; `values` is its config.json. Raises `LuhuoError` for another packing."""
    found = values.get("quantization_config")
    if not isinstance(found, dict):
        return weights
    method = found.get("quant_method")
    if method == "mxfp4":
        return MXFP4Weights(weights)
    if method == "fp8":
        return FP8Weights(weights, tuple(found.get("weight_block_size") or TILE))
    if method == LOW_RANK:
        return FactorisedWeights(weights, values)
    if method in METHODS:
        return read_rounded(weights, found)
    raise LuhuoError(
        tr("Weights quantised this way are not read.", "不读取以这种方式量化的权重。"),
        expected=", ".join(("mxfp4", "fp8", *METHODS)),
        found=method,
        where=weights.where,
        fix=tr("Get the model in bf16, or as GGUF.", "请换用该模型的 bf16 或 GGUF 版本。"),
    )


class MXFP4Weights:
    """`NAME_blocks` (E, rows, n, 16) and `NAME_scales` (E, rows, n) are NAME (E, 32 · n, rows), as gpt-oss has it."""

    def __init__(self, weights: Weights) -> None:
        self.where, self._weights = weights.where, weights
        self._shapes = dict(weights.shapes())
        self._packed = {name.removesuffix("_blocks") for name in self._shapes if name.endswith("_blocks")}
        for name in sorted(self._packed):  # the same tensor is named in every run
            blocks, scales = self._shapes.pop(name + "_blocks"), self._shapes.pop(name + "_scales", None)
            if len(blocks) != 4 or blocks[-1] != 16 or scales != blocks[:-1]:
                raise _misfit(name + "_blocks", blocks, scales, weights.where)
            self._shapes[name] = (blocks[0], 32 * blocks[2], blocks[1])

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """All names, with shapes."""
        return self._shapes

    def tensor(self, name: str) -> Tensor:
        """One tensor."""
        if name not in self._packed:
            return self._weights.tensor(name)
        parts = (self._weights.tensor(f"{name}_{kind}") for kind in ("blocks", "scales"))
        return dequantise_mxfp4(*parts).mT


class FP8Weights:
    """`NAME` in float8 times `NAME_scale_inv`, one number for each tile, is NAME."""

    def __init__(self, weights: Weights, tile: tuple[int, ...]) -> None:
        self.where, self._weights = weights.where, weights
        self._tile = (tile[0], tile[-1])
        shapes = weights.shapes()
        self._shapes = {name: shape for name, shape in shapes.items() if not name.endswith(SCALE)}
        self._packed = {name.removesuffix(SCALE) for name in shapes if name.endswith(SCALE)}
        for name in sorted(self._packed):  # the same tensor is named in every run
            shape, scales = shapes.get(name, ()), shapes[name + SCALE]
            if scales != tuple(-(-size // step) for size, step in zip(shape, self._tile, strict=False)):
                raise _misfit(name, shape, scales, weights.where)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """All names, with shapes."""
        return self._shapes

    def tensor(self, name: str) -> Tensor:
        """One tensor."""
        found = self._weights.tensor(name)
        if name not in self._packed:
            return found
        return dequantise_fp8(found, self._weights.tensor(name + SCALE), self._tile)

    def rounded(self, name: str) -> None:
        """No tensor is on a grid of integers."""

    def float8(self, name: str) -> Float8 | None:
        """One tensor as it is kept; None if it is not kept in E4M3, or its tiles are no whole numbers of lanes."""
        if name not in self._packed or len(self._shapes[name]) != 2 or self._tile[1] % 8:
            return None
        values = self._weights.tensor(name)
        if values.dtype != torch.float8_e4m3fn:
            return None
        scale = self._weights.tensor(name + SCALE).float().repeat_interleave(self._tile[0], 0)
        return Float8(values, scale[: len(values)], self._tile[1])

    def activations(self, name: str) -> Activations:
        """Inputs are rounded to FP8, by token and tile."""
        return Activations("float")


def _misfit(name: str, shape: tuple[int, ...], scales: tuple[int, ...] | None, where: object) -> LuhuoError:
    return LuhuoError(
        tr("A quantised tensor and its scales do not fit.", "量化张量与其缩放不符。"),
        found=f"{name} {list(shape)}, {tr('scales', '缩放')} {None if scales is None else list(scales)}",
        where=where,
    )
