"""A matrix in the form it is published in: plain, on a grid of integers, or in FP8; and how its input is rounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from luhuo.model.quantised import Rounded


@dataclass(frozen=True)
class Float8:
    """A matrix in FP8: weight = values · scale."""

    values: Tensor
    """(rows, columns) float8_e4m3fn."""
    scale: Tensor
    """(rows, groups), or (1, 1) for the whole matrix; fp32 or bf16."""
    group: int | None = None
    """Columns that share a scale; None: all."""


@dataclass(frozen=True)
class Activations:
    """How the input of a matrix is rounded to 8 bits before it is multiplied."""

    kind: Literal["int", "float"] = "int"
    scale: Tensor | None = None
    """(1,): one scale for all inputs, from calibration; None: each token has its own, found when it is there."""
    threshold: float | None = None
    """Columns with a number above this in any token are multiplied unrounded (LLM.int8, Dettmers et al. 2022)."""


@dataclass(frozen=True)
class Kept:
    """A matrix and how its input is rounded; None: not at all."""

    value: Tensor | Rounded | Float8
    activations: Activations | None = None
