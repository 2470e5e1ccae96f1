"""Settings of quantisation-aware training."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from luhuo.core.config import Config, field

Method = Literal["ste", "lsq"]


class Quantisation(Config):
    """The grid that the blocks' matrices are rounded to while they are trained, and in the result."""

    bits: Literal[8, 4, 3, 2] = field(4, "Bits of the blocks' matrices.", "模型块矩阵的位数。")
    group: int | None = field(
        32,
        "Columns under one scale, a multiple of 8; null: whole rows.",
        "共用一个缩放的列数，须为 8 的倍数；null 为整行。",
        ge=8,
        multiple_of=8,
    )
    symmetric: bool = field(
        True, "Zero lies in the middle of the grid; otherwise where it fits the group.", "零点居中；否则随各组而定。"
    )
    search: bool = field(
        True,
        "Scales have the least squared error; else ste takes smallest to largest, and lsq begins at 2·mean/√Q.",
        "缩放取平方误差最小者；否则 ste 取最小值到最大值，lsq 由 2·均值/√Q 开始。",
    )
    activations: Literal[8] | None = field(
        None,
        "Bits of the matrices' inputs, each token with a scale of its own (W8A8); null: unrounded.",
        "矩阵输入的位数，每词元各有缩放（W8A8）；null 为不取整。",
    )
    method: Method = field(
        "ste",
        "Where scales come from: ste (of the weights, anew in each step) or lsq (learned).",
        "缩放的来源：ste（每步由权重重新求得）或 lsq（学习得到）。",
    )
    start_step: int = field(0, "Optimiser steps before rounding begins.", "开始取整之前的优化步数。", ge=0)
    step_rate: float = field(
        1.0,
        "lsq: learning rate of the scales' logarithms, relative to learning_rate.",
        "lsq：缩放对数的学习率与 learning_rate 之比。",
        gt=0,
    )

    @model_validator(mode="after")
    def _only_what_is_read(self) -> Self:
        if self.method == "ste" and "step_rate" in self.model_fields_set:
            raise ValueError("ste does not read step_rate")
        if self.method == "lsq" and not self.symmetric:
            raise ValueError("lsq learns scales of symmetric grids only")
        if self.activations and (self.bits, self.group, self.symmetric) != (8, None, True):
            raise ValueError("activations of 8 bits are multiplied by bits: 8, group: null, symmetric: true only")
        return self
