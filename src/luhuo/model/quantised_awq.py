"""Writing the layout of AWQ's "gemm" kernels (Lin et al. 2023): 4 bits, the matrix as (columns, rows), eight rows to a
word in the order 0, 2, 4, 6, 1, 3, 5, 7, zeros likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.quantised import Rounded
from luhuo.model.quantised_files import AWQ_ORDER
from luhuo.model.quantised_save import unsigned
from luhuo.model.words import to_words


def of_awq(matrix: Rounded, name: str) -> dict[str, Tensor]:
    """A matrix by the endings of its tensors' names. Raises `LuhuoError` for one that this layout does not hold."""
    rows = len(matrix.q)
    if matrix.bits != 4 or matrix.order is not None or rows % 8:
        raise LuhuoError(
            tr("This layout does not hold such a matrix.", "该布局存不下这样的矩阵。"),
            expected=tr("4 bits, columns in their order, rows a multiple of 8", "4 位、列未重排、行数为 8 的倍数"),
            found=tr(
                f"{matrix.bits} bits, {rows} rows{'' if matrix.order is None else ', columns moved'}",
                f"{matrix.bits} 位，{rows} 行{'' if matrix.order is None else '，列已重排'}",
            ),
            where=name,
            fix="luhuo export … --to compressed-tensors",
        )
    q, zero = unsigned(matrix, torch.arange(rows), name)
    if zero is None:
        zero = torch.full(matrix.scale.shape, 8, dtype=torch.int16)
    return {".qweight": _packed(q.t()), ".qzeros": _packed(zero.t()), ".scales": matrix.scale.t().half()}


def _packed(q: Tensor) -> Tensor:
    """Integers (n, rows) as words (n, rows / 8)."""
    return to_words(q.unflatten(1, (-1, 8))[..., list(AWQ_ORDER)].flatten(1), 4)


def awq_config(first: Rounded, dense: Sequence[str]) -> dict[str, Any]:
    """The `quantization_config` of matrices that are all like `first`; those named in `dense` are not rounded."""
    return {
        "quant_method": "awq",
        "bits": 4,
        "group_size": -1 if first.group >= first.q.shape[1] else first.group,
        "zero_point": True,
        "version": "gemm",
        "modules_to_not_convert": list(dense) or None,
    }
