"""Filling a decoder whose matrices are kept in few bits: rounded here, or as they were published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from luhuo.kernels.eight_bit import eight_bit
from luhuo.kernels.packed import Bits, pack
from luhuo.model.eight_bit import EightBitLinear
from luhuo.model.families.links import Link
from luhuo.model.kept_linear import KeptLinear
from luhuo.model.matrices import Activations, Float8
from luhuo.model.quantised import (
    QuantisedLinear,
    Rounded,
    bits_of,
    group_of,
    is_of_experts,
    joined_rows,
    put,
    put_matrices,
    round_matrices,
)
from luhuo.model.quantised_experts import QuantisedMatrices


class Source(Protocol):
    """Published tensors by name."""

    def tensor(self, name: str) -> Tensor:
        """One tensor as floats."""
        ...


@runtime_checkable
class RoundedSource(Source, Protocol):
    """Published tensors some of which were rounded already."""

    def rounded(self, name: str) -> Rounded | None:
        """One tensor as it was rounded; None if it was not."""
        ...


@runtime_checkable
class KeptSource(RoundedSource, Protocol):
    """Published tensors that may be in FP8, too, and whose inputs may have to be rounded."""

    def float8(self, name: str) -> Float8 | None:
        """One tensor in FP8; None if it is not."""
        ...

    def activations(self, name: str) -> Activations | None:
        """How the input of a matrix is to be rounded; None: not at all."""
        ...


class Keeper:
    """Fills a model whose matrices of the blocks are to have `bits`, one parameter at a time.

    `bits` None: each is kept as it is published, in its bits, in FP8 or as floats, and its inputs are rounded to 8
    bits where the directory says so; those of experts are not. FP8 inputs are not rounded: no CPU multiplies them.
    """

    def __init__(self, model: nn.Module, source: Source, bits: Bits | None, dtype: torch.dtype) -> None:
        self.model, self.source, self.dtype = model, source, dtype
        self.bits: Bits | None = bits
        self.group = group_of(model, bits) if bits else None

    def __call__(self, link: Link, names: Sequence[str]) -> bool:
        """Put the published tensors `names` where `link` says, and say so; False for what is kept as floats.

        What was rounded already stays as it is, unless fewer bits are asked for.
        """
        bits = bits_of(link.ours, self.model, 8 if self.bits is None else self.bits)
        if bits is None:
            return False
        inside = link.ours.startswith("blocks.")
        experts = len(self.model.get_parameter(link.ours)) if is_of_experts(link.ours, self.model) else None
        if inside and self._put_as_published(link, names, experts):
            return True
        if inside and self.bits is None:
            return False
        parts = [self.source.rounded(name) for name in names] if isinstance(self.source, RoundedSource) else []
        known = [part for part in parts if part is not None and part.in_bits(bits)]
        found = _joined(link, known, len(names), experts)
        if found is None:
            whole = link.join([self.source.tensor(name) for name in names])
            found = round_matrices(whole, bits, self.group if inside else None)
        wanted = found.in_bits(bits)
        assert wanted is not None
        put(self.model, link.ours, wanted, self.dtype)
        return True

    def _put_as_published(self, link: Link, names: Sequence[str], experts: int | None) -> bool:
        """Keep a matrix of the blocks in FP8, or in whatever bits it has if none are asked for."""
        if not isinstance(self.source, KeptSource) or self.bits == 4:
            return False
        floats = _joined_floats(link, [self.source.float8(name) for name in names], experts)
        if floats is not None:
            self._put_floats(link.ours, floats, experts)
            return True
        if self.bits is not None:
            return False
        rounded = [self.source.rounded(name) for name in names]
        found = _joined(link, _alike([part for part in rounded if part is not None]), len(names), experts)
        if found is None:
            return False
        inputs = _same_inputs([self.source.activations(name) for name in names])
        plain = found.bits == 8 and found.low is None and found.order is None and found.scale.shape[1] == 1
        if inputs is None or not plain or experts:
            put(self.model, link.ours, found, self.dtype)
            return True
        matrix = eight_bit(found.q, found.scale, input_scale=inputs.scale, threshold=inputs.threshold)
        self._place(link.ours, EightBitLinear(matrix))
        return True

    def _put_floats(self, name: str, floats: Float8, experts: int | None) -> None:
        group = floats.group or -(-floats.values.shape[1] // 8) * 8
        parts = zip(floats.values.chunk(experts or 1), floats.scale.chunk(experts or 1), strict=True)
        packed = [pack(values, scale, bits=8, group=group) for values, scale in parts]
        if experts:
            put_matrices(self.model, name, QuantisedMatrices(packed))
        else:
            self._place(name, QuantisedLinear(packed[0]))

    def _place(self, name: str, module: KeptLinear) -> None:
        """Put a module where the parameter `name` is, with the bias that is there."""
        owner = name.rpartition(".")[0]
        parent, _, child = owner.rpartition(".")
        bias = self.model.get_submodule(owner).bias
        module.bias = None if bias is None else bias.detach()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
        setattr(self.model.get_submodule(parent), child, module)


def _same_inputs(inputs: Sequence[Activations | None]) -> Activations | None:
    """How the one input of matrices that are joined is rounded; with fixed scales by the largest, as vLLM does it."""
    found = [one for one in inputs if one is not None and one.kind == "int"]
    if len(found) < len(inputs) or len({(one.scale is None, one.threshold) for one in found}) > 1:
        return None
    scales = [one.scale.reshape(1).float() for one in found if one.scale is not None]
    return replace(found[0], scale=torch.stack(scales).amax(0)) if scales else found[0]


def _alike(parts: Sequence[Rounded]) -> list[Rounded]:
    """The same matrices in the bits of the widest, with lows if any has them."""
    if len({(part.bits, part.low is None) for part in parts}) < 2:
        return list(parts)
    lows, widest = any(part.low is not None for part in parts), max(parts, key=lambda part: part.bits)
    found = []
    for part in parts:
        if lows and part.low is None:
            shift = 0 if part.bits == 8 else 2 ** (part.bits - 1)
            part = replace(part, q=part.q + shift, low=-shift * part.scale.float())
        found.append(replace(part, bits=widest.bits))
    return found


def _joined_floats(link: Link, parts: Sequence[Float8 | None], experts: int | None) -> Float8 | None:
    """What `link` makes of matrices in FP8, with scales for each row."""
    found = [part for part in parts if part is not None]
    alike = len(found) == len(parts) and len({(part.group, part.values.shape[1]) for part in found}) == 1
    places = _row_order(link, [len(part.values) for part in found], experts) if alike else None
    if places is None:
        return None
    values = torch.cat([part.values.view(torch.int8) for part in found])[places]
    scale = torch.cat([part.scale.float().expand(len(part.values), -1) for part in found])[places]
    return Float8(values.view(torch.float8_e4m3fn), scale, found[0].group)


def _joined(link: Link, parts: Sequence[Rounded], count: int, experts: int | None) -> Rounded | None:
    """What `link` makes of rounded matrices, if it only moves rows and all were rounded alike."""
    if len(parts) < count or len({(part.bits, part.group, part.low is None, part.q.shape[1]) for part in parts}) > 1:
        return None
    first = parts[0]
    for part in parts[1:]:
        if (part.order is None) != (first.order is None):
            return None
        if part.order is not None and first.order is not None and not torch.equal(part.order, first.order):
            return None
    places = _row_order(link, [len(part.q) for part in parts], experts)
    if places is None or (experts and first.order is not None):
        return None
    whole = joined_rows(parts)
    low = None if whole.low is None else whole.low[places]
    return replace(whole, q=whole.q[places], scale=whole.scale[places], low=low)


def _row_order(link: Link, sizes: Sequence[int], experts: int | None) -> Tensor | None:
    """The rows of what `link` makes of matrices with so many rows, as numbers of all their rows; None: not so.

    `experts`: it makes a matrix for each of them, out of matrices or of tensors that have one for each, too.
    """
    numbers = torch.arange(sum(sizes))[:, None]
    parts = list(numbers.split(list(sizes)))
    if experts and not link.experts:
        parts = [part.view(experts, -1, 1) for part in parts]
    try:
        found = link.join(parts)
    except (RuntimeError, IndexError):  # it does more than move rows
        return None
    found = found.flatten(0, 1) if experts else found
    same = found.shape == numbers.shape and torch.equal(found.sort(0).values, numbers)
    return found[:, 0] if same else None
