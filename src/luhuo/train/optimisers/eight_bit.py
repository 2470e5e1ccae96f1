"""AdamW and Lion with states of 8 bits a number: matrices only, since what is small or seen rarely saves little.

Rows are cut into blocks of up to 256 numbers, each scaled by its largest (Dettmers et al. 2022, "8-bit Optimizers via
Block-wise Quantization"). A code stands for the square of its share of the highest code, signed: fine near zero, where
most numbers are. It reaches from 1 to 6e-5 for the momentum (signed) and to 1.5e-5 for the root of the second moment,
and needs a root and a product instead of a search in the paper's table. The second moment is kept as its root, which
doubles its reach, and never rounded to zero, so that no step can be larger than the truth by much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, zeros
from torch.nn import functional as F

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.train.optimisers import adamw, lion
from luhuo.train.optimisers.chunks import chunks
from luhuo.train.optimisers.groups import Group
from luhuo.train.pieces import cut_of, local

BLOCK = 256


class Codes:
    """A tensor of a parameter's shape in 8 bits: codes like the parameter, and one fp32 scale a block of its rows.

    Raises `LuhuoError` for a parameter whose rows are cut.
    """

    def __init__(self, like: Tensor, *, signed: bool) -> None:
        split = cut_of(like).split
        if split is not None and split.dim == like.ndim - 1:
            raise LuhuoError(
                tr(
                    "8-bit states do not go with rows that are cut by tensor parallelism.",
                    "8 位状态不能用于被张量并行切断的行。",
                ),
                fix=tr("Use adamw or lion, or fsdp in place of tp.", "请用 adamw 或 lion，或以 fsdp 代替 tp。"),
            )
        like = like.detach()
        self.columns = like.shape[-1]
        self.blocks = -(-self.columns // BLOCK)
        self.codes = torch.zeros_like(like, dtype=torch.int8 if signed else torch.uint8)
        shape = (*like.shape[:-1], self.blocks)
        if isinstance(like, DTensor):
            self.scales: Tensor = zeros(shape, device_mesh=like.device_mesh, placements=like.placements)
        else:
            self.scales = torch.zeros(shape, device=like.device)

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """Codes and scales, as far as this process holds them."""
        return local(self.codes), local(self.scales)

    @property
    def widths(self) -> tuple[int, int]:
        """Length of a row of each."""
        return self.columns, self.blocks

    def state(self, name: str) -> dict[str, Tensor]:
        """Both tensors, by name."""
        return {f"{name}_codes": self.codes, f"{name}_scales": self.scales}


def decode(codes: Tensor, scales: Tensor) -> Tensor:
    """The numbers (rows, columns) of codes (rows, columns) with scales (rows, blocks)."""
    shares = codes.float().div_(_highest(codes.dtype))
    shares.mul_(shares.abs())
    return shares.mul_(_along(scales, shares.shape[1]))


def encode(numbers: Tensor, codes: Tensor, scales: Tensor) -> None:
    """Write numbers (rows, columns) into codes (rows, columns) and scales (rows, blocks), to the nearest code."""
    columns, blocks = numbers.shape[1], scales.shape[1]
    width = -(-columns // blocks)
    padded = F.pad(numbers, (0, blocks * width - columns)) if blocks * width > columns else numbers
    scales.copy_(padded.unflatten(1, (blocks, width)).abs().amax(-1))
    shares = numbers / _along(scales.clamp(min=torch.finfo(torch.float32).tiny), columns)
    found = shares.abs().sqrt_().mul_(_highest(codes.dtype)).round_()
    if codes.dtype == torch.uint8:
        codes.copy_(found.clamp_(min=1))
    else:
        codes.copy_(found.copysign_(shares))


def _along(scales: Tensor, columns: int) -> Tensor:
    """Scales (rows, blocks) for each of a row's numbers (rows, columns)."""
    if scales.shape[1] == 1:
        return scales
    return scales.repeat_interleave(-(-columns // scales.shape[1]), 1)[:, :columns]


def _highest(dtype: torch.dtype) -> int:
    return torch.iinfo(dtype).max


class AdamW8:
    """`AdamW` with both moments in 8 bits."""

    def __init__(self, groups: Sequence[Group], betas: tuple[float, float] | None = None) -> None:
        self.groups, self.betas = groups, betas or adamw.BETAS
        named = [(name, p) for each in groups for name, p in each.parameters.items()]
        self.momentum = {name: Codes(p, signed=True) for name, p in named}
        self.root = {name: Codes(p, signed=False) for name, p in named}
        self.count = torch.zeros((), dtype=torch.float64)

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Move all parameters that have a gradient, at `factor` times the peak learning rates."""
        self.count += 1
        (first, second), count = self.betas, self.count.item()
        unbias = math.sqrt(1 - second**count)
        for each in self.groups:
            rate = each.rate * factor
            for name, p in each.parameters.items():
                if p.grad is None:
                    continue
                m, r = self.momentum[name], self.root[name]
                tensors = [local(p.detach()), local(p.grad), *m.tensors, *r.tensors]
                widths = [m.columns, m.columns, *m.widths, *r.widths]
                for weight, gradient, m_codes, m_scales, r_codes, r_scales in chunks(tensors, widths):
                    momentum = decode(m_codes, m_scales).lerp_(gradient, 1 - first)
                    square = decode(r_codes, r_scales).square_().mul_(second)
                    root = square.addcmul_(gradient, gradient, value=1 - second).sqrt_()
                    encode(momentum, m_codes, m_scales)
                    encode(root, r_codes, r_scales)
                    root.div_(unbias).add_(adamw.EPSILON)
                    weight.mul_(1 - rate * each.decay).addcdiv_(momentum, root, value=-rate / (1 - first**count))

    def state(self) -> dict[str, Tensor]:
        """Codes and scales of two moments a parameter, and how many steps were made."""
        found = {"adamw8:step": self.count}
        for name, codes in self.momentum.items():
            found |= codes.state(f"{name}:momentum") | self.root[name].state(f"{name}:root")
        return found


class Lion8:
    """`Lion` with its momentum in 8 bits."""

    def __init__(self, groups: Sequence[Group], betas: tuple[float, float] | None = None) -> None:
        self.groups, self.betas = groups, betas or lion.BETAS
        self.momentum = {name: Codes(p, signed=True) for each in groups for name, p in each.parameters.items()}

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Move all parameters that have a gradient, at `factor` times the peak learning rates."""
        for each in self.groups:
            rate = each.rate * factor
            for name, p in each.parameters.items():
                if p.grad is None:
                    continue
                m = self.momentum[name]
                tensors = [local(p.detach()), local(p.grad), *m.tensors]
                for weight, gradient, codes, scales in chunks(tensors, [m.columns, m.columns, *m.widths]):
                    momentum = decode(codes, scales)
                    lion.move_by_sign(weight, gradient, momentum, self.betas, rate, each.decay)
                    encode(momentum, codes, scales)

    def state(self) -> dict[str, Tensor]:
        """Codes and scales of one momentum a parameter."""
        return {
            key: value for name, codes in self.momentum.items() for key, value in codes.state(f"{name}:lion").items()
        }
