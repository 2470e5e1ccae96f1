"""Writing the layout of GPTQ (Frantar et al. 2022) as AutoGPTQ and GPTQModel have it: `qweight`, `qzeros`, `scales`
and `g_idx`, the matrix as (columns, rows).

Zeros are stored less one ("gptq"); a zero of 0 would then run into its neighbour when readers add the one again, and
GPTQModel refuses other zeros than the middle in this form. So matrices with zeros take the second form ("gptq_v2"),
which stores them as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.quantised import Rounded
from luhuo.model.quantised_save import in_place, unsigned
from luhuo.model.words import WORD, to_words

SECOND = "gptq_v2"


def of_gptq(matrix: Rounded, name: str, *, second: bool) -> dict[str, Tensor]:
    """A matrix by the endings of its tensors' names, with zeros as they are if `second`. Raises `LuhuoError` for a
    size that does not fill words."""
    rows, columns = matrix.q.shape
    step = WORD if WORD % matrix.bits else WORD // matrix.bits
    if rows % step or columns % step:
        raise LuhuoError(
            tr("A matrix does not fill the words of this layout.", "矩阵的大小不能填满该布局的字。"),
            expected=tr(f"multiples of {step}", f"{step} 的倍数"),
            found=[rows, columns],
            where=name,
            fix="luhuo export … --to compressed-tensors",
        )
    q, zero = unsigned(matrix, torch.arange(rows), name)
    index = torch.arange(columns, dtype=torch.int32) // min(matrix.group, columns)
    if matrix.order is not None:
        q, index = in_place(q, matrix.order, matrix.group)
    if zero is None:
        zero = torch.full(matrix.scale.shape, 2 ** (matrix.bits - 1), dtype=torch.int16)
    stored = zero if second else zero - 1
    return {
        ".qweight": to_words(q, matrix.bits).t(),
        ".qzeros": to_words(stored.t(), matrix.bits),
        ".scales": matrix.scale.t().half(),
        ".g_idx": index,
    }


def gptq_config(first: Rounded, dense: Sequence[str], *, symmetric: bool, moved: bool, second: bool) -> dict[str, Any]:
    """The `quantization_config` of matrices that are all like `first`; those named in `dense` are not rounded."""
    return {
        "quant_method": "gptq",
        "bits": first.bits,
        "group_size": -1 if first.group >= first.q.shape[1] else first.group,
        "desc_act": moved,
        "sym": symmetric,
        "lm_head": False,
        "checkpoint_format": SECOND if second else "gptq",
        "pack_dtype": "int32",
        **({"dynamic": {f"-:^{name.replace('.', chr(92) + '.')}$": {} for name in dense}} if dense else {}),
    }
