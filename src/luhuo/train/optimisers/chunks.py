"""Walking over large tensors in pieces that fit the processor's cache, so that temporaries stay there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

NUMBERS = 2**17
"""Numbers of a piece on a CPU: four fp32 tensors of them are 2 MiB. Elsewhere a tensor is one piece."""


def chunks(tensors: Sequence[Tensor], columns: Sequence[int] | None = None) -> Iterator[list[Tensor]]:
    """Views (rows, columns) of the same rows of all tensors, which have equally many rows.

    With `columns` each tensor's rows have its own length; else all tensors are taken as one row of numbers.
    """
    widths = columns or [1] * len(tensors)
    flat = [tensor.reshape(-1, width) for tensor, width in zip(tensors, widths, strict=True)]
    rows = len(flat[0])
    size = max(1, NUMBERS // max(1, flat[0].shape[1])) if flat[0].device.type == "cpu" else max(1, rows)
    for start in range(0, rows, size):
        yield [tensor[start : start + size] for tensor in flat]
