"""Which matrices of a model a method works on: ours, which hold several published ones, and the rows of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.adaptable import Adaptable
from luhuo.model.base import LanguageModel
from luhuo.model.families import links
from luhuo.model.families.links import Link

GROUPS = ("all", "attention", "mlp")


@dataclass(frozen=True)
class Target:
    """One published matrix inside one of ours."""

    owner: str
    """Our module: blocks.0.attention.qkv."""
    theirs: str
    """The published one: model.layers.0.self_attn.q_proj."""
    rows: Tensor
    """(n,) int64: the rows of ours that are its rows, in its order."""
    whole: bool
    """Whether these are all rows of ours in order."""
    columns: int
    transposed: bool
    """Whether it is published as (inputs, outputs)."""

    @property
    def kind(self) -> str:
        """The last part of its published name."""
        return self.theirs.rpartition(".")[2]

    @property
    def layer(self) -> int | None:
        """The number of its block."""
        return layer_of(self.owner)

    @property
    def place(self) -> slice | Tensor:
        """Its rows, as a slice where they lie beside one another."""
        first, count = int(self.rows[0]), len(self.rows)
        beside = torch.equal(self.rows, torch.arange(first, first + count))
        return slice(first, first + count) if beside else self.rows


def layer_of(name: str) -> int | None:
    """The number of the block a name belongs to; None outside."""
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def all_targets(model: LanguageModel) -> list[Target]:
    """Every matrix in the model's blocks, in order."""
    found: list[Target] = []
    by_name = {link.ours: link for link in links(model.config)}  # type: ignore[attr-defined]
    for name, module in model.named_modules():
        link = by_name.get(f"{name}.weight")
        if isinstance(module, Adaptable) and layer_of(name) is not None and link is not None:
            found += _inside(name, module, link)
    return found


def _inside(name: str, module: Adaptable, link: Link) -> list[Target]:
    """The published matrices of one of ours; none where they are more than rows of it."""
    shape = module.dense(torch.float32).shape if not hasattr(module, "rows") else (module.rows, module.columns)
    rows, columns = int(shape[0]), int(shape[1])  # type: ignore[arg-type]
    numbers = torch.arange(rows)[:, None] * 2 + torch.arange(2)
    try:
        parts = link.split(numbers)
    except (RuntimeError, IndexError):  # the link depends on the columns: it does more than move rows
        return []
    found = []
    for theirs, part in zip(link.theirs, parts, strict=True):
        turned = part.ndim == 2 and part.shape[1] != 2
        first = (part.mT if turned else part)[:, 0]
        if part.ndim != 2 or not torch.equal((part.mT if turned else part)[:, 1], first + 1):
            return []
        own = first // 2
        whole = torch.equal(own, torch.arange(rows))
        found.append(Target(name, theirs.removesuffix(".weight"), own, whole, columns, turned))
    return found


def chosen(
    model: LanguageModel, wanted: Sequence[str], layers: Sequence[int], default: Callable[[Target], bool]
) -> list[Target]:
    """The matrices that `wanted` names (`default`, if it is empty), in the blocks `layers` (all, if it is empty).

    Raises `LuhuoError` for a name or a layer that is not there.
    """
    every = all_targets(model)
    numbers = {target.layer for target in every}
    strange = [layer for layer in layers if layer not in numbers]
    kinds = sorted({target.kind for target in every})
    unknown = [name for name in wanted if not any(_fits(name, target) for target in every)]
    if strange or unknown or not every:
        raise LuhuoError(
            tr("The model has no such matrix to adapt.", "模型没有可适配的此类矩阵。"),
            expected=", ".join([*GROUPS, *kinds]) + tr(f"; {len(numbers)} layers", f"；共 {len(numbers)} 层"),
            found=", ".join([*unknown, *(str(layer) for layer in strange)]) or None,
            where="adapter.targets" if unknown else "adapter.layers",
        )
    found = [t for t in every if (any(_fits(name, t) for name in wanted) if wanted else default(t))]
    if not found:
        raise LuhuoError(
            tr("The model has no matrix that this method works on.", "模型没有该方法可作用的矩阵。"),
            found=", ".join(kinds),
            where="adapter.targets",
        )
    return [t for t in found if not layers or t.layer in layers]


def told_apart(model: LanguageModel, found: Sequence[Target], layers: Sequence[int]) -> dict[str, str]:
    """By published name, the shortest end of it that names no other matrix of these layers (all, if empty).

    BERT calls three matrices of a block `dense`: by that alone one of them cannot be asked for.
    """
    mine = {target.theirs for target in found}
    others = {
        name.removesuffix(".weight")
        for link in links(model.config)  # type: ignore[attr-defined]
        if not layers or layer_of(link.ours) in layers
        for name in link.theirs
        if name.endswith(".weight")
    }
    taken = {end for name in others - mine for end in _ends(name)}
    return {name: next((end for end in _ends(name) if end not in taken), name) for name in mine}


def _ends(name: str) -> list[str]:
    """c, b.c, a.b.c of a.b.c."""
    parts = name.split(".")
    return [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]


def _fits(name: str, target: Target) -> bool:
    if name in ("attention", "mlp"):
        return f".{name}." in f".{target.owner}."
    return name == "all" or target.theirs == name or target.theirs.endswith(f".{name}")
