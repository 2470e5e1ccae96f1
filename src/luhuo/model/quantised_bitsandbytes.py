"""The layout of bitsandbytes' 8-bit models (LLM.int8, Dettmers et al. 2022): int8 weights and the largest magnitude of
each row, SCB. A weight is q · SCB / 127; columns of activations above the threshold are multiplied unrounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.quantised import Rounded

TOP = 127


def of_bitsandbytes(matrix: Rounded, rows: Tensor, name: str) -> dict[str, Tensor]:
    """Some rows of a matrix, by the endings of the tensors' names. Raises `LuhuoError` for a matrix that is not in 8
    bits with one scale a row."""
    columns = matrix.q.shape[1]
    if matrix.bits != 8 or matrix.low is not None or matrix.order is not None or matrix.group < columns:
        raise LuhuoError(
            tr("This layout has weights in 8 bits with one scale a row.", "该布局只存每行一个缩放的 8 位权重。"),
            expected=tr("8 bits, symmetric, whole rows", "8 位、对称、整行"),
            found=tr(f"{matrix.bits} bits, groups of {matrix.group}", f"{matrix.bits} 位，每组 {matrix.group} 列"),
            where=name,
            fix="luhuo quantize method=rtn bits=8 group=null symmetric=true …",
        )
    return {
        ".weight": matrix.q[rows].clone(),
        ".SCB": matrix.scale[rows, 0].float() * TOP,
        ".weight_format": torch.zeros((), dtype=torch.uint8),
    }


def bitsandbytes_config(threshold: float, dense: Sequence[str]) -> dict[str, Any]:
    """The `quantization_config` of such a directory."""
    return {
        "quant_method": "bitsandbytes",
        "load_in_8bit": True,
        "load_in_4bit": False,
        "llm_int8_threshold": threshold,
        "llm_int8_has_fp16_weight": False,
        "llm_int8_enable_fp32_cpu_offload": False,
        "llm_int8_skip_modules": list(dense),
    }
