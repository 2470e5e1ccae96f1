"""Looking tokens up in an embedding that is also the output matrix, with a gradient of the looked-up rows only.

The output layer's gradient fills the whole table. A second table of zeros with a few rows in it, only to be added to
that, costs two passes over 113 MB for a vocabulary of 49,152 and a width of 576. A sparse gradient is added in place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

_watched: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""Tables whose gradient is made dense should nothing but sparse rows arrive."""


class _Rows(torch.autograd.Function):
    """Rows of a table. The gradient of a row that is looked up several times is summed first, as in a dense table."""

    @staticmethod
    def forward(ctx: Any, ids: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.shape = table.shape
        return F.embedding(ids, table)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        (ids,) = ctx.saved_tensors
        rows, place = ids.flatten().unique(return_inverse=True)
        sums = gradients[0].new_zeros(len(rows), ctx.shape[1])
        sums.index_add_(0, place, gradients[0].reshape(-1, ctx.shape[1]))
        return None, torch.sparse_coo_tensor(rows[None], sums, ctx.shape, is_coalesced=True, check_invariants=False)


def look_up(ids: Tensor, table: nn.Parameter, *, tied: bool) -> Tensor:
    """Rows (…, width) of the table (vocab, width) at `ids` (…). `tied`: the output layer multiplies by it too."""
    plain = type(table) is nn.Parameter and table.is_leaf and table.device.type == "cpu"
    sparse = tied and plain and table.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_compiling()
    if not sparse:
        return F.embedding(ids, table)
    if table not in _watched:
        table.register_post_accumulate_grad_hook(_make_dense)
        _watched[table] = True
    return _Rows.apply(ids, table)  # type: ignore[return-value]


def _make_dense(table: Tensor) -> None:
    if table.grad is not None and table.grad.is_sparse:
        table.grad = table.grad.to_dense()
