"""Decoders whose matrices are kept in 8 or 4 bits (weight-only quantisation); activations stay in bf16 or fp32.

Matrices of the blocks, those of experts too, are rounded to the nearest in groups of columns; embedding and output
matrix always to 8 bits. Norms, biases and routers stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from luhuo.core.device import fast_bf16
from luhuo.kernels.low_bit import Matrix, dense, describe, product, quantise, rows_at
from luhuo.kernels.packed import Bits, Packed, Width, pack
from luhuo.model.kept_linear import KeptLinear
from luhuo.model.layers import Linear
from luhuo.model.moe import Experts
from luhuo.model.quantised_experts import QuantisedMatrices

SCHEMES: dict[str, Bits] = {"int8": 8, "int4": 4}
"""Bits of the blocks' matrices, by the name given as a dtype."""


def computed_in(name: str, device: torch.device) -> str:
    """The dtype to compute in of a model loaded as `name`: bf16 for few bits where that is fast, else fp32."""
    return name if name not in (*SCHEMES, "sparse") else "bf16" if fast_bf16(device) else "fp32"


GROUPS: dict[Bits, tuple[int, ...]] = {8: (64, 32), 4: (32, 16, 8)}
"""Columns that share a scale, where nothing else says so: the first of these that divides the rows of all matrices."""


class QuantisedLinear(KeptLinear):
    """A `Linear` with a packed matrix."""

    packed: Tensor
    scale: Tensor
    low: Tensor | None
    order: Tensor | None
    bias: Tensor | None

    def __init__(self, matrix: Packed, bias: Tensor | None = None, width: Width | None = None) -> None:
        super().__init__()
        self.bits: Bits = matrix.bits
        self.width: Width = width or matrix.bits  # what it was rounded to; 3 and 2 are packed like 4
        self.rows, self.columns, self.group = matrix.rows, matrix.columns, matrix.group
        self.floats = matrix.floats
        self.hold(packed=matrix.weight, scale=matrix.scale, low=matrix.low, order=matrix.order, bias=bias)

    @property
    def matrix(self) -> Packed:
        """The packed matrix."""
        tensors = self.packed, self.scale, self.low, self.order
        return Packed(self.bits, self.rows, self.columns, self.group, *tensors, self.floats)

    def describe(self) -> Matrix:
        return describe(self.matrix, self.bias)

    def dense(self, dtype: torch.dtype) -> Tensor:
        return dense(self.matrix, dtype)

    def multiply(self, x: Tensor) -> Tensor:
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
    """Integers and scales of a matrix before they are packed; `low` and `order` as `Packed` has them.

    Of experts' matrices it has the rows of all, one expert after the other, and no order.
    """

    q: Tensor
    """(rows, columns) int8."""
    scale: Tensor
    """(rows, groups)."""
    low: Tensor | None
    bits: Width
    group: int
    order: Tensor | None = None

    def packed(self) -> Packed:
        """The matrix as the kernels want it: 3 and 2 bits in the layout of 4."""
        bits = 8 if self.bits == 8 else 4
        return pack(self.q, self.scale, self.low, bits=bits, group=self.group, order=self.order)

    def matrices(self, experts: int) -> QuantisedMatrices:
        """The matrices of so many experts as the kernels want them."""
        rows = len(self.q) // experts
        lows = [None] * experts if self.low is None else self.low.split(rows)
        parts = zip(self.q.split(rows), self.scale.split(rows), lows, strict=True)
        each = [replace(self, q=q, scale=scale, low=low).packed() for q, scale, low in parts]
        return QuantisedMatrices(each, self.bits)

    def in_bits(self, bits: Width) -> Rounded | None:
        """The matrix, if it takes at most so many bits."""
        return self if self.bits <= bits else None


def round_matrix(weight: Tensor, bits: Bits, group: int | None = None) -> Rounded:
    """Round a matrix (rows, columns) to the nearest."""
    group = group or fitting_group({weight.shape[1]}, bits)
    return Rounded(*quantise(weight, bits, group), None, bits, group)


def round_matrices(weight: Tensor, bits: Bits, group: int | None = None) -> Rounded:
    """The same for a matrix, or one for each expert (experts, rows, columns), of which one at a time is in fp32."""
    if weight.ndim == 2:
        return round_matrix(weight, bits, group)
    group = group or fitting_group({weight.shape[2]}, bits)
    return joined_rows([round_matrix(one, bits, group) for one in weight])


def joined_rows(parts: Sequence[Rounded]) -> Rounded:
    """The rows of matrices that were rounded alike, under one another."""
    lows = [part.low for part in parts if part.low is not None]
    low = torch.cat(lows) if lows else None
    scale = torch.cat([part.scale for part in parts])
    return replace(parts[0], q=torch.cat([part.q for part in parts]), scale=scale, low=low)


def fitting_group(columns: Collection[int], bits: Bits) -> int:
    """The group for matrices with these numbers of columns: whole rows where none of `GROUPS` divides them all."""
    whole = -(-max(columns, default=8) // 8) * 8
    return next((size for size in GROUPS[bits] if all(count % size == 0 for count in columns)), whole)


def group_of(model: nn.Module, bits: Bits) -> int:
    """The group for the blocks' matrices of a model: one for all, as other programs want it."""
    names = [name for name, _ in model.named_parameters(remove_duplicate=False) if name.startswith("blocks.")]
    return fitting_group({model.get_parameter(n).shape[-1] for n in names if bits_of(n, model, bits)}, bits)


def bits_of(name: str, model: nn.Module, bits: Bits) -> Bits | None:
    """The bits in which a parameter of this name is kept in a model whose blocks have `bits`; None: as it is."""
    if name in ("embedding", "unembedding.weight"):
        return 8
    owner, _, kind = name.rpartition(".")
    if not name.startswith("blocks."):
        return None
    if kind == "weight":
        return bits if type(model.get_submodule(owner)) is Linear else None
    return bits if is_of_experts(name, model) else None


def is_of_experts(name: str, model: nn.Module) -> bool:
    """Whether a parameter of this name holds a matrix for each expert."""
    owner, _, kind = name.rpartition(".")
    return kind in ("gate_up", "down") and type(model.get_submodule(owner)) is Experts


def put(model: nn.Module, name: str, rounded: Rounded, dtype: torch.dtype) -> None:
    """Put a matrix in the place of the parameter `name` of a model that computes in `dtype`."""
    owner = name.rpartition(".")[0]
    if not owner:
        delattr(model, name)
        setattr(model, name, QuantisedEmbedding(rounded.packed(), dtype))
        return
    if is_of_experts(name, model):
        put_matrices(model, name, rounded.matrices(len(model.get_parameter(name))))
        return
    parent, _, child = owner.rpartition(".")
    bias = getattr(model.get_submodule(owner), "bias", None)
    setattr(model.get_submodule(parent), child, QuantisedLinear(rounded.packed(), bias, rounded.bits))


def put_matrices(model: nn.Module, name: str, matrices: QuantisedMatrices) -> None:
    """Put experts' matrices in the place of the parameter `name` of a model."""
    owner, _, kind = name.rpartition(".")
    experts = model.get_submodule(owner)
    delattr(experts, kind)
    setattr(experts, kind, matrices)


def quantise_model(model: nn.Module, scheme: str, group: int | None = None) -> None:
    """Round a loaded decoder's matrices in place, one at a time: `scheme` is "int8" or "int4"."""
    bits = SCHEMES[scheme]
    group = group or group_of(model, bits)
    dtype = next(model.parameters()).dtype
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        kept = bits_of(name, model, bits)
        if kept is not None:
            inside = name.startswith("blocks.")
            put(model, name, round_matrices(parameter.detach(), kept, group if inside else None), dtype)


@torch.no_grad()
def round_like(model: nn.Module, rounded: nn.Module) -> None:
    """Give a model of floats the numbers that another, of the same weights in few bits, computes with."""
    for name, module in rounded.named_modules():
        if isinstance(module, QuantisedLinear | QuantisedMatrices):
            own = isinstance(module, QuantisedEmbedding | QuantisedMatrices)
            model.get_parameter(name if own else f"{name}.weight").copy_(module.dense(torch.float32))
