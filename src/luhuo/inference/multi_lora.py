"""LoRA adapters of many requests in one forward pass (Chen et al. 2023, "Punica"; Sheng et al. 2023, "S-LoRA").

A matrix holds the factors of all adapters, filled with zeros to the largest rank. The base is multiplied once for the
whole batch; then each row goes through the factors of its own adapter, all rows together in one small product.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.adaptable import Adaptable
from luhuo.model.decoder import Decoder
from luhuo.model.mla import LatentAttention

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""By our matrix: A (rank, columns) and B (rows, rank), whose product is what is added to the matrix."""


@dataclass(frozen=True)
class Choice:
    """Which rows of a forward pass have adapters, and which."""

    slots: Tensor
    """(rows,) int64: slots of the rows with adapters."""
    rows: Tensor | None
    """(rows,) int64: their places in the batch; None: these are all."""
    batch: int
    only: int | None
    """The slot, where all rows have the same; then the batch may have any size."""


class Updates(nn.Module):
    """What all adapters add to one matrix; it is that matrix' `adapter`. Slot 0 adds nothing."""

    a: Tensor
    b: Tensor

    def __init__(self, bank: MultiLora, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.__dict__["bank"] = bank  # no module of this one
        self.register_buffer("a", a, persistent=False)
        self.register_buffer("b", b, persistent=False)

    def forward(self, matrix: Adaptable, x: Tensor) -> Tensor:
        """The output (…, rows) for x (batch, time, columns), or (batch · time, columns)."""
        y, choice = matrix.product(x), self.__dict__["bank"].choice
        if choice is None:
            return y
        if choice.only is not None:
            a, b = self.a[choice.only], self.b[choice.only]
            return y + (x @ a.mT) @ b.mT
        shape = y.shape
        if x.ndim == 2:
            x, y = (t.unflatten(0, (choice.batch, -1)) for t in (x, y))
        a, b = self.a[choice.slots], self.b[choice.slots]
        own = x if choice.rows is None or len(x) < choice.batch else x[choice.rows]
        added = (own @ a.mT) @ b.mT
        y = y + added if choice.rows is None else y.expand(choice.batch, -1, -1).index_add(0, choice.rows, added)
        return y.view(shape) if y.ndim > len(shape) else y

    def merged(self, matrix: Adaptable, weight: Tensor) -> Tensor:
        """The matrix alone: rows differ in what they add to it."""
        return weight


class MultiLora:
    """The factors of all adapters of a model. Whoever runs the model says for each pass which row has which."""

    def __init__(self, model: Decoder) -> None:
        self.model = model
        self.choice: Choice | None = None
        self._updates: dict[str, Updates] = {}
        self._ranks: list[dict[str, int]] = [{}]
        """By slot, the ranks of its adapter by matrix; empty: a free slot, or the one of no adapter."""
        self._on = False

    def add(self, factors: Factors) -> int:
        """Keep an adapter; returns its slot. Raises `LuhuoError` for a matrix that is not used as one product."""
        for owner in factors:
            parent = self.model.get_submodule(owner.rpartition(".")[0])
            if isinstance(parent, LatentAttention) and owner.endswith(".kv_up"):
                raise LuhuoError(
                    tr(
                        "An adapter of this matrix cannot share a batch with others.",
                        "作用于该矩阵的适配器无法与其他请求同批运行。",
                    ),
                    found=owner,
                    fix=tr("Serve the adapter alone, as a model of its own.", "请把该适配器作为独立模型提供服务。"),
                )
        slot = next((i for i, ranks in enumerate(self._ranks) if i and not ranks), len(self._ranks))
        self._ranks[slot : slot + 1] = [{owner: len(a) for owner, (a, _) in factors.items()}]
        self._lay(slot, factors)
        return slot

    def remove(self, slot: int) -> None:
        """Forget an adapter; no pass may need it any more."""
        self._ranks[slot] = {}
        while len(self._ranks) > 1 and not self._ranks[-1]:
            self._ranks.pop()
        self._lay(slot, {})

    @contextmanager
    def rows(self, slots: Sequence[int]) -> Iterator[None]:
        """A forward pass over a batch whose rows have the adapters of these slots; 0: none."""
        chosen = [i for i, slot in enumerate(slots) if slot]
        if not chosen:
            yield
            return
        self.put(on=True)
        device, alike = self.model.device, len(chosen) == len(slots) and len(set(slots)) == 1
        self.choice = Choice(
            torch.tensor([slots[i] for i in chosen], device=device),
            None if len(chosen) == len(slots) else torch.tensor(chosen, device=device),
            len(slots),
            slots[0] if alike else None,
        )
        try:
            yield
        finally:
            self.choice = None

    def put(self, *, on: bool) -> None:
        """Have the factors at their matrices, or nothing there, so that the model is as fast as without adapters."""
        if on == self._on:
            return
        self._on = on
        for owner, updates in self._updates.items():
            self._place(owner, updates if on else None)

    def _place(self, owner: str, updates: Updates | None) -> None:
        self.model.get_submodule(owner).register_module("adapter", updates)

    def _lay(self, new: int, factors: Factors) -> None:
        """Lay the factors of all adapters beside one another, those of slot `new` from `factors`."""
        where = {"dtype": self.model.dtype, "device": self.model.device}
        for owner in {*self._updates, *factors}:
            before, ranks = self._updates.pop(owner, None), [ranks.get(owner, 0) for ranks in self._ranks]
            if not any(ranks):
                self._place(owner, None)
                continue
            columns, rows = (before.a.shape[2], before.b.shape[1]) if before else _shape(*factors[owner])
            a = torch.zeros(len(ranks), max(ranks), columns, **where)  # type: ignore[arg-type]
            b = torch.zeros(len(ranks), rows, max(ranks), **where)  # type: ignore[arg-type]
            for slot, rank in enumerate(ranks):
                if rank and slot == new:
                    a[slot, :rank], b[slot, :, :rank] = factors[owner]
                elif rank and before is not None:
                    a[slot, :rank], b[slot, :, :rank] = before.a[slot, :rank], before.b[slot, :, :rank]
            self._updates[owner] = Updates(self, a, b)
            self._place(owner, self._updates[owner] if self._on else None)


def _shape(a: Tensor, b: Tensor) -> tuple[int, int]:
    """Columns and rows of the matrix that factors belong to."""
    return a.shape[1], b.shape[0]
