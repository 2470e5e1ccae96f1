"""Matrices kept as two thin factors: weight (rows, columns) = b (rows, rank) · a (rank, columns).

The product of a rank below rows · columns / (rows + columns) reads fewer numbers than the matrix, so a token is
decoded in less time. On disk `NAME.a` and `NAME.b`, NAME being our name of the matrix, stand in the place of the
published tensors, and config.json says so under `quantization_config`; its `model_type` is no known one, so that other
programs refuse the directory. `densify` makes an ordinary model of it, which `luhuo export` writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.adaptable import Adaptable
from luhuo.model.families import links, read_config
from luhuo.model.families.links import Link
from luhuo.model.layers import Linear
from luhuo.model.weights import Weights

METHOD = "luhuo-low-rank"
"""The `quant_method` of config.json."""


@dataclass(frozen=True)
class Factors:
    """Two factors of a matrix (rows, columns)."""

    a: Tensor
    """(rank, columns)."""
    b: Tensor
    """(rows, rank)."""

    @property
    def rank(self) -> int:
        """Their inner size."""
        return len(self.a)

    def dense(self) -> Tensor:
        """The matrix they stand for, in fp32."""
        return self.b.float() @ self.a.float()


class FactorisedLinear(Adaptable):
    """A `Linear` in two factors; either may be kept in few bits (`model.quantised`)."""

    def __init__(self, factors: Factors, bias: nn.Parameter | None = None) -> None:
        super().__init__()
        (self.rank, columns), rows = factors.a.shape, len(factors.b)
        with torch.device("meta"):
            self.a, self.b = Linear(columns, self.rank), Linear(self.rank, rows)
        self.a.weight, self.b.weight = nn.Parameter(factors.a.detach()), nn.Parameter(factors.b.detach())
        self.b.register_parameter("bias", bias)

    @property
    def bias(self) -> Tensor | None:  # type: ignore[override]
        """(rows,)."""
        return self.b.bias

    def dense(self, dtype: torch.dtype) -> Tensor:
        return (self.b.effective(torch.float32) @ self.a.effective(torch.float32)).to(dtype)

    def product(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


class FactorisedWeights:
    """The tensors of a factorised directory, seen as those of an ordinary one; `factors` gives them as they are."""

    def __init__(self, weights: Weights, values: Mapping[str, Any]) -> None:
        self.where, self._weights = weights.where, weights
        self.ranks = _ranks(values, weights.where)
        shapes = weights.shapes()
        table = {link.ours: link for link in links(read_config(dict(values), self.where / "config.json"))}
        self._links: dict[str, Link] = {}
        self._places: dict[str, tuple[str, int]] = {}
        self._shapes = {name: shape for name, shape in shapes.items() if name[:-2] not in self.ranks}
        for name, rank in self.ranks.items():
            a, b = (shapes.get(f"{name}.{part}", ()) for part in "ab")
            link = table.get(f"{name}.weight")
            if link is None or len(a) != 2 or len(b) != 2 or a[0] != rank or b[1] != rank:
                raise _misfit(weights.where, f"{name}: a {list(a)}, b {list(b)}, {rank}")
            self._links[name] = link
            parts = link.split(torch.empty(b[0], a[1], device="meta"))
            for place, (theirs, part) in enumerate(zip(link.theirs, parts, strict=True)):
                self._places[theirs] = name, place
                self._shapes[theirs] = tuple(part.shape)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """All names, with shapes."""
        return self._shapes

    def tensor(self, name: str) -> Tensor:
        """One tensor, multiplied out if it is kept in factors."""
        if name not in self._places:
            return self._weights.tensor(name)
        owner, place = self._places[name]
        found = self.factors(owner)
        return self._links[owner].split(found.dense().to(found.a.dtype))[place]

    def factors(self, name: str) -> Factors:
        """The factors of one of our matrices."""
        return Factors(self._weights.tensor(f"{name}.a"), self._weights.tensor(f"{name}.b"))


class Factoriser:
    """Fills a model whose weights are factorised: where they are, a `FactorisedLinear` takes the `Linear`'s place."""

    def __init__(self, model: nn.Module, weights: FactorisedWeights, dtype: torch.dtype) -> None:
        self.model, self.weights, self.dtype = model, weights, dtype

    def __call__(self, link: Link, names: Sequence[str]) -> bool:
        """Put the matrix where `link` says, and say so; False for what is kept whole."""
        owner, _, last = link.ours.rpartition(".")
        if last != "weight" or owner not in self.weights.ranks:
            return False
        found = self.weights.factors(owner)
        put(self.model, owner, Factors(found.a.to(self.dtype, copy=True), found.b.to(self.dtype, copy=True)))
        return True


def put(model: nn.Module, name: str, factors: Factors) -> None:
    """Put factors in the place of a matrix of a model; its bias stays the very same parameter."""
    parent, _, child = name.rpartition(".")
    bias = model.get_submodule(name)._parameters.get("bias")
    setattr(model.get_submodule(parent), child, FactorisedLinear(factors, bias))


def factorised(model: nn.Module) -> dict[str, FactorisedLinear]:
    """The factorised matrices of a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, FactorisedLinear)}


@torch.no_grad()
def densify(model: nn.Module) -> None:
    """Multiply the factors out: an ordinary model that computes the same."""
    for name, module in factorised(model).items():
        kept = module.a.weight.dtype if isinstance(module.a, Linear) else torch.float32
        dense = module.dense(kept)
        with torch.device("meta"):
            whole = Linear(dense.shape[1], dense.shape[0])
        whole.weight = nn.Parameter(dense)
        whole.register_parameter("bias", module.b._parameters.get("bias"))
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, whole.train(module.training))


def published_factorised(model: nn.Module, config: Any) -> Iterator[tuple[str, Tensor]]:
    """All published tensors of a factorised model, its factors under our names. Raises `LuhuoError` for factors that
    are kept in few bits."""
    found = factorised(model)
    tensors = {_outer(name, found): tensor for name, tensor in model.named_parameters()}
    for name, module in found.items():
        if not (isinstance(module.a, Linear) and isinstance(module.b, Linear)):
            raise LuhuoError(
                tr("Factors in few bits are not written.", "不写出低位数的因子。"),
                found=name,
                fix=tr("Load the model in bf16 or fp32.", "请以 bf16 或 fp32 载入模型。"),
            )
    for link in links(config):
        owner = link.ours.removesuffix(".weight")
        if owner in found:
            yield f"{owner}.a", tensors[f"{owner}.a"]
            yield f"{owner}.b", tensors[f"{owner}.b"]
        else:
            yield from zip(link.theirs, link.split(tensors[link.ours].detach()), strict=True)


def _outer(name: str, found: Mapping[str, FactorisedLinear]) -> str:
    """A parameter's name as it is without the modules of the factors."""
    owner, _, last = name.rpartition(".")
    outer, _, part = owner.rpartition(".")
    if outer not in found:
        return name
    return f"{outer}.{last}" if last == "bias" else f"{outer}.{part}"


def low_rank_config(ranks: Mapping[str, int]) -> dict[str, Any]:
    """What config.json says of matrices with these ranks."""
    return {"quant_method": METHOD, "ranks": dict(ranks)}


def _ranks(values: Mapping[str, Any], where: Path) -> dict[str, int]:
    found = values["quantization_config"].get("ranks")
    if not isinstance(found, dict) or not all(isinstance(rank, int) and rank > 0 for rank in found.values()):
        raise _misfit(where, f"ranks: {found!r}"[:80])
    return found


def _misfit(where: Path, found: str) -> LuhuoError:
    return LuhuoError(
        tr("The factors do not fit config.json.", "因子与 config.json 不符。"),
        expected=tr("NAME.a (rank, columns), NAME.b (rows, rank)", "NAME.a（秩, 列）、NAME.b（行, 秩）"),
        found=found,
        where=where,
    )
