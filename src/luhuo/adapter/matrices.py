"""Methods that work on single matrices: what they share, and the module that stands on one of ours.

One of our matrices may hold several published ones (query, key and value; gate and up). Each of them has a part of its
own, as other programs know it.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from luhuo.adapter.adapter import Adapter
from luhuo.adapter.config import AdapterConfig
from luhuo.adapter.targets import Target, chosen, told_apart
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.model.adaptable import Adaptable
from luhuo.model.base import LanguageModel
from luhuo.model.layers import Linear


class Part(nn.Module, abc.ABC):
    """What a method does to one published matrix."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target

    def before(self, x: Tensor) -> Tensor:
        """What the matrix is given instead of x (…, columns)."""
        return x

    @abc.abstractmethod
    def forward(self, x: Tensor, y: Tensor, matrix: Adaptable) -> Tensor:
        """The output (…, n) for the input x (…, columns), where the matrix with its bias gives y (…, n)."""

    @abc.abstractmethod
    def merged(self, weight: Tensor) -> Tensor:
        """The matrix (n, columns) that does the same as `weight` (n, columns) with this part."""

    @abc.abstractmethod
    def published(self) -> dict[str, nn.Parameter | Tensor]:
        """Tensors by the end of their published name."""


class OnMatrix(nn.Module):
    """The parts on one of our matrices; it is that matrix' `adapter`."""

    def __init__(self, parts: list[Part]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.places = [part.target.place for part in parts]

    def _all(self) -> list[Part]:
        return [part for part in self.parts if isinstance(part, Part)]

    def forward(self, matrix: Adaptable, x: Tensor) -> Tensor:
        parts = self._all()
        given = parts[0].before(x) if len(parts) == 1 else x
        y = matrix.product(given)
        if parts[0].target.whole:
            return parts[0](given, y, matrix)
        pieces: list[Tensor] = []
        end = 0
        for part, place in zip(parts, self.places, strict=True):
            if not isinstance(place, slice):
                return self._scattered(parts, given, y, matrix)
            pieces += [y[..., end : place.start], part(given, y[..., place], matrix)]
            end = place.stop
        return torch.cat([*pieces, y[..., end:]], -1)

    def _scattered(self, parts: list[Part], x: Tensor, y: Tensor, matrix: Adaptable) -> Tensor:
        """The same for rows that do not lie beside one another."""
        for part in parts:
            rows = part.target.rows.to(y.device)
            y = y.index_copy(-1, rows, part(x, y[..., rows], matrix))
        return y

    def merged(self, matrix: Adaptable, weight: Tensor) -> Tensor:
        """The matrix (rows, columns) that alone does what `weight` does with the parts."""
        result = weight.clone()
        for part, place in zip(self._all(), self.places, strict=True):
            result[place] = part.merged(weight[place].float()).to(weight.dtype)
        return result


class MatrixMethod(Adapter):
    """A method that puts a part on each of the chosen matrices."""

    peft_type: ClassVar[str] = ""
    """What peft calls it; empty: peft does not have it."""

    def __init__(self, model: LanguageModel, config: AdapterConfig, seed: int) -> None:
        super().__init__(model, config)
        self.parts: list[Part] = []
        self.on: dict[str, OnMatrix] = {}
        by_owner: dict[str, list[Target]] = {}
        for target in sorted(chosen(model, config.targets, config.layers, self.suits), key=lambda t: int(t.rows[0])):
            by_owner.setdefault(target.owner, []).append(target)
        for owner, targets in by_owner.items():
            matrix = self.matrix(owner)
            parts = []
            for target in targets:
                random = torch.Generator().manual_seed(derive_seed(seed, "adapter", target.theirs))
                parts.append(self.part(target, matrix, random).to(model.device))
            self.parts += parts
            self.on[owner] = OnMatrix(parts)
        self.put(on=True)

    @staticmethod
    def suits(target: Target) -> bool:
        """Whether the method works on a matrix where the config does not say."""
        return True

    @abc.abstractmethod
    def part(self, target: Target, matrix: Adaptable, random: torch.Generator) -> Part:
        """The part for one published matrix, at its start."""

    def matrix(self, owner: str) -> Adaptable:
        """One of our matrices."""
        found = self.model.get_submodule(owner)
        assert isinstance(found, Adaptable)
        return found

    def put(self, *, on: bool) -> None:
        for owner, adapter in self.on.items():
            self.matrix(owner).register_module("adapter", adapter if on else None)

    def own(self) -> dict[str, nn.Parameter]:
        return {
            f"{owner}.adapter.{name}": p
            for owner, adapter in self.on.items()
            for name, p in adapter.named_parameters()
            if p.requires_grad
        }

    def tensors(self) -> dict[str, Tensor]:
        return {
            f"{part.target.theirs}.{end}": tensor.detach()
            for part in self.parts
            for end, tensor in part.published().items()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        ours = {f"{p.target.theirs}.{end}": tensor for p in self.parts for end, tensor in p.published().items()}
        fill(ours, tensors)

    def layout(self) -> dict[str, Any]:
        layers = self.config.layers
        names = told_apart(self.model, [part.target for part in self.parts], layers)
        found: dict[str, Any] = {
            "peft_type": self.peft_type or self.config.method.upper(),
            "target_modules": sorted(set(names.values())),
            "fan_in_fan_out": any(part.target.transposed for part in self.parts),
        }
        if layers:
            found["layers_to_transform"] = sorted(layers)
        return found

    def merge(self) -> Callable[[], None]:
        """Weights become those with the adapter; matrices kept in few bits are refused."""
        owners = {owner: self.matrix(owner) for owner in self.on}
        refuse_rounded(owners)
        before: dict[str, Tensor] = {}
        for owner, matrix in owners.items():
            assert isinstance(matrix, Linear)
            before[owner] = matrix.weight.data
            with torch.no_grad():
                matrix.weight.data = self.on[owner].merged(matrix, matrix.weight.data)
        self.put(on=False)

        def undo() -> None:
            for owner, weight in before.items():
                owners[owner].weight.data = weight  # type: ignore[union-attr]
            self.put(on=True)

        return undo


def refuse_rounded(owners: Mapping[str, Adaptable]) -> None:
    """Raise `LuhuoError` if a matrix is kept in few bits: rounding it again would lose what was learned."""
    rounded = [owner for owner, matrix in owners.items() if not isinstance(matrix, Linear)]
    if rounded:
        raise LuhuoError(
            tr("Weights kept in few bits cannot take an adapter in.", "低位数的权重无法并入适配器。"),
            found=", ".join(rounded[:3]),
            fix=tr("Load the model in fp32 or bf16 for it.", "请以 fp32 或 bf16 载入模型后再合并。"),
        )


@torch.no_grad()
def fill(ours: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Copy tensors into those of the same name. Raises `LuhuoError` where names or shapes differ."""
    problems = {
        tr("missing", "缺少"): sorted(ours.keys() - found.keys()),
        tr("unexpected", "多余"): sorted(found.keys() - ours.keys()),
        tr("wrong shape", "形状不符"): [
            f"{name} {list(found[name].shape)} ≠ {list(tensor.shape)}"
            for name, tensor in ours.items()
            if name in found and found[name].shape != tensor.shape
        ],
    }
    told = [f"{label} ({len(names)}): {', '.join(names[:4])}" for label, names in problems.items() if names]
    if told:
        raise LuhuoError(
            tr("The adapter does not fit this model and config.", "适配器与该模型及配置不符。"),
            found="; ".join(told),
            fix=tr("Use the model it was trained on.", "请使用训练它时的模型。"),
        )
    for name, tensor in ours.items():
        tensor.copy_(found[name])
