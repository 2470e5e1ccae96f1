"""Which numbers of a matrix become zero: the smallest scores of each row, of the whole matrix, or N of every M.

Ties are broken by place, the first stays, so that equal scores give equal masks on every machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

Scope = Literal["row", "matrix"]
"""Among which scores the smallest are looked for."""


@dataclass(frozen=True)
class Pattern:
    """`kept` numbers stay of each `of` neighbours in a row (Mishra et al. 2021); 2:4 is what processors multiply."""

    kept: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The pattern written N:M. Raises `LuhuoError` where 0 < N < M does not hold."""
        found = re.fullmatch(r"(\d{1,3}):(\d{1,3})", text)
        if found is None or not 0 < int(found[1]) < int(found[2]):
            raise LuhuoError(
                tr("This is no pattern of zeros.", "这不是合法的稀疏模式。"),
                expected=tr("N:M with 0 < N < M, such as 2:4", "N:M，且 0 < N < M，如 2:4"),
                found=text,
            )
        return cls(int(found[1]), int(found[2]))

    @property
    def sparsity(self) -> float:
        """Share of zeros."""
        return 1 - self.kept / self.of

    def check(self, columns: int, name: str) -> None:
        """Raise `LuhuoError` unless `columns`, those of the matrix `name`, are whole groups."""
        if columns % self.of:
            raise LuhuoError(
                tr(
                    f"Groups of {self.of} columns do not divide the matrix {name}.",
                    f"每 {self.of} 列一组，无法整分矩阵 {name}。",
                ),
                expected=tr(f"a multiple of {self.of} columns", f"列数为 {self.of} 的倍数"),
                found=columns,
                fix=tr(
                    "Choose another pattern, or leave it out (sparsity=…).", "换一种模式，或不用模式（sparsity=…）。"
                ),
            )

    def __str__(self) -> str:
        return f"{self.kept}:{self.of}"


def kept_of_pattern(scores: Tensor, pattern: Pattern) -> Tensor:
    """The mask (…, columns) of what stays: of each group of neighbours the highest scores."""
    grouped = scores.unflatten(-1, (-1, pattern.of))
    return _highest(grouped, pattern.kept).flatten(-2)


def kept_of_share(scores: Tensor, sparsity: float, scope: Scope = "row") -> Tensor:
    """The mask of what stays of a matrix (…, rows, columns) when a share of exactly `sparsity`, rounded to whole
    numbers, is taken away from each row or from the matrix as a whole."""
    flat = scores if scope == "row" else scores.flatten(-2)
    count = flat.shape[-1]
    return _highest(flat, count - round(sparsity * count)).view(scores.shape)


def _highest(scores: Tensor, count: int) -> Tensor:
    """Of the last dimension's scores the `count` highest, the first of equal ones."""
    order = scores.argsort(dim=-1, descending=True, stable=True)[..., :count]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, order, True)
