"""The rounding of one matrix in training: what stands on a `Linear`, as an adapter does."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from luhuo.model.adaptable import Adaptable
from luhuo.model.grid import Grid
from luhuo.model.layers import Linear
from luhuo.model.quantised import Rounded
from luhuo.train.pieces import gathered, local
from luhuo.train.quantisation.config import Quantisation
from luhuo.train.quantisation.fake import first_steps, rounded_matrix, rounded_product, rounded_tokens


class Rounding(nn.Module):
    """The grid of a matrix that is trained. The matrix computes with its numbers while `on`.

    Scales that are not learned are found by `refresh`, once for each state of the weights, however many passes use
    them. Learned ones are kept as their logarithms: they stay positive, and a step of an optimiser changes a small
    scale as much as a large one in proportion. Scales are used as bf16 numbers, as they will be stored.
    """

    step: nn.Parameter | None
    scale: Tensor
    zero: Tensor

    def __init__(self, matrix: Linear, config: Quantisation) -> None:
        super().__init__()
        self.grid = Grid(config.bits, config.group, config.symmetric, config.search)
        self.group = self.grid.width(matrix.weight.shape[1])
        shape = (matrix.weight.shape[0], matrix.weight.shape[1] // self.group)
        options = {"device": matrix.weight.device, "dtype": torch.float32}
        self.register_parameter(
            "step", nn.Parameter(torch.zeros(shape, **options)) if config.method == "lsq" else None
        )
        self.register_buffer("scale", torch.ones(shape, **options), persistent=False)
        self.register_buffer("zero", torch.full(shape, 2.0 ** (config.bits - 1), **options), persistent=False)
        self.activations = config.activations
        self.on = False

    def forward(self, matrix: Linear, x: Tensor) -> Tensor:
        """x (…, columns) times the rounded matrix, its adapter merged, plus its bias: (…, rows)."""
        if self.activations:
            x = rounded_tokens(x)
        y = rounded_product(x, merged(matrix), self.steps(), self.zero, self.grid)
        return y if matrix.bias is None else y + matrix.bias.to(y.dtype)

    def values(self, weight: Tensor) -> Tensor:
        """A matrix of this shape at the nearest points of the grid: fp32, with slopes."""
        return rounded_matrix(weight, self.steps(), self.zero, self.grid)

    def steps(self) -> Tensor:
        """The scales (rows, groups) fp32, with slopes where they are learned."""
        return self.scale if self.step is None else _as_stored(self.step.exp())

    @torch.no_grad()
    def refresh(self, matrix: Linear, *, first: bool) -> None:
        """Find the scales of the matrix as it is now; learned ones only at the `first` time."""
        weight = merged(matrix)
        mine = local(weight)  # with FSDP some rows: a scale belongs to one row
        if self.step is None:
            scale, zero = self.grid.scales(mine)
            self.scale.copy_(gathered(scale, weight))
            self.zero.copy_(gathered(zero, weight))
        elif first:
            self.step.copy_(gathered(self._first_steps(mine), weight).log())

    def _first_steps(self, weight: Tensor) -> Tensor:
        """Scales to begin with. Those of a matrix that was rounded before (by GPTQ, say) are its own."""
        if not self.grid.search:
            return first_steps(weight, self.group, self.grid.bits)
        kept = self.grid.stands_on(weight)
        return self.grid.scales(weight)[0] if kept is None else kept

    @torch.no_grad()
    def rounded(self, matrix: Linear) -> Rounded:
        """The matrix as it will be kept: what it computes with now."""
        return self.grid.round(merged(matrix), self.steps(), self.zero)


class _Stored(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, scale: Tensor) -> Tensor:
        return scale.bfloat16().float()

    @staticmethod
    def backward(ctx: object, *slopes: Tensor) -> Tensor:
        return slopes[0]


def _as_stored(scale: Tensor) -> Tensor:
    """Scales as bf16 numbers, with the slopes of what they were."""
    return _Stored.apply(scale)  # type: ignore[return-value]


def merged(matrix: Linear) -> Tensor:
    """The matrix with what its adapter makes of it."""
    adapter = matrix._modules["adapter"]
    return matrix.weight if adapter is None else cast(Tensor, adapter.merged(matrix, matrix.weight))  # type: ignore[operator]


def roundings(model: nn.Module) -> dict[str, tuple[Linear, Rounding]]:
    """The matrices of a model that are rounded in training, by name."""
    found = {}
    for name, module in model.named_modules():
        rounding = module._modules.get("rounding") if isinstance(module, Adaptable) else None
        if isinstance(rounding, Rounding):
            found[name] = (cast(Linear, module), rounding)
    return found


def copy_rounding(model: nn.Module, other: nn.Module) -> None:
    """Put the roundings of a model on another of the same config, on the CPU."""
    for name, (_, rounding) in roundings(model).items():
        cast(nn.Module, other.get_submodule(name)).register_module("rounding", copy.deepcopy(rounding).cpu())
