"""Decoders whose matrices are kept in 8 or 4 bits (weight-only quantisation); activations stay in bf16 or fp32.

Matrices of the blocks are rounded to the nearest in groups of columns; embedding and output matrix always to 8 bits.
Norms, biases and stacked experts stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from luhuo.kernels.low_bit import Bits, Matrix, Packed, dense, describe, pack, product, quantise, rows_at
from luhuo.model.layers import Linear

SCHEMES: dict[str, Bits] = {"int8": 8, "int4": 4}
"""Bits of the blocks' matrices, by the name given as a dtype."""
GROUPS: dict[Bits, int] = {8: 64, 4: 32}
"""Columns that share a scale, where nothing else says so."""


class QuantisedLinear(nn.Module):
    """A `Linear` with a packed matrix."""

    packed: Tensor
    scale: Tensor
    low: Tensor | None
    order: Tensor | None
    bias: Tensor | None

    def __init__(self, matrix: Packed, bias: Tensor | None = None) -> None:
        super().__init__()
        self.bits, self.rows, self.columns, self.group = matrix.bits, matrix.rows, matrix.columns, matrix.group
        tensors = {"packed": matrix.weight, "scale": matrix.scale, "low": matrix.low, "order": matrix.order}
        for name, tensor in (tensors | {"bias": bias}).items():
            self.register_buffer(name, None if tensor is None else tensor.detach())

    @property
    def matrix(self) -> Packed:
        """The packed matrix."""
        return Packed(self.bits, self.rows, self.columns, self.group, self.packed, self.scale, self.low, self.order)

    def describe(self) -> Matrix:
        """The compiled kernels' view of matrix and bias, which must outlive it."""
        return describe(self.matrix, self.bias)

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The matrix (rows, columns) in `dtype`."""
        return dense(self.matrix, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return product(x, self.matrix, self.bias)


class QuantisedEmbedding(QuantisedLinear):
    """An embedding in 8 bits. It stands in the place of a parameter, and says of itself what that would."""

    def __init__(self, matrix: Packed, dtype: torch.dtype) -> None:
        super().__init__(matrix)
        self.dtype = dtype

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.packed.device

    def look_up(self, ids: Tensor) -> Tensor:
        """Rows (…, width) at `ids` (…)."""
        return rows_at(self.matrix, ids, self.dtype)


@dataclass(frozen=True)
class Rounded:
    """Integers and scales of a matrix before they are packed; `low` as `Packed` has it."""

    q: Tensor
    scale: Tensor
    low: Tensor | None
    bits: Bits
    group: int
    order: Tensor | None = None


def round_matrix(weight: Tensor, bits: Bits, group: int | None = None) -> Rounded:
    """Round a matrix (rows, columns) to the nearest."""
    group = group or GROUPS[bits]
    return Rounded(*quantise(weight, bits, group), None, bits, group)


def packed(rounded: Rounded) -> Packed:
    """Pack it."""
    return pack(rounded.q, rounded.scale, rounded.low, bits=rounded.bits, group=rounded.group, order=rounded.order)


def bits_of(name: str, model: nn.Module, bits: Bits) -> Bits | None:
    """The bits in which a parameter of this name is kept in a model whose blocks have `bits`; None: as it is."""
    if name in ("embedding", "unembedding.weight"):
        return 8
    owner, _, kind = name.rpartition(".")
    inside = name.startswith("blocks.") and kind == "weight"
    return bits if inside and type(model.get_submodule(owner)) is Linear else None


def put(model: nn.Module, name: str, rounded: Rounded, dtype: torch.dtype) -> None:
    """Put a matrix in the place of the parameter `name` of a model that computes in `dtype`."""
    owner = name.rpartition(".")[0]
    if not owner:
        delattr(model, name)
        setattr(model, name, QuantisedEmbedding(packed(rounded), dtype))
        return
    parent, _, child = owner.rpartition(".")
    old = model.get_submodule(owner)
    bias = getattr(old, "bias", None)
    setattr(model.get_submodule(parent), child, QuantisedLinear(packed(rounded), bias))


def quantise_model(model: nn.Module, scheme: str, group: int | None = None) -> None:
    """Round a loaded decoder's matrices in place, one at a time: `scheme` is "int8" or "int4"."""
    bits = SCHEMES[scheme]
    dtype = next(model.parameters()).dtype
    for name, parameter in list(model.named_parameters()):
        kept = bits_of(name, model, bits)
        if kept is not None:
            put(model, name, round_matrix(parameter.detach(), kept, group if kept == bits else None), dtype)
