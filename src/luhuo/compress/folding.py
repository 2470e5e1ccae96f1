"""Where the inputs of a block's matrices can be scaled without changing what the block computes.

A matrix W with inputs x computes the same as W · diag(s) with inputs x / s. The division costs nothing where what
produces x is linear in each feature: a norm's weight, the rows of the matrix before, an activation with
f(x / s) = f(x) / s. AWQ (Lin et al. 2023, section 3.2) and SmoothQuant (Xiao et al. 2023, section 4) choose s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from luhuo.model.block import Block
from luhuo.model.layers import MLP, Attention, Linear
from luhuo.model.linear_attention import LinearAttention
from luhuo.model.mla import LatentAttention
from luhuo.model.norms import LayerNorm, RMSNorm
from luhuo.model.query_block import QueryBlock


@dataclass(frozen=True)
class Fold:
    """One such place in a block."""

    matrices: tuple[str, ...]
    """All that read this input, by their names in the block."""
    divide: Callable[[Tensor], Tensor]
    """Divide the input by scales (columns,); gives the scales it was really divided by."""
    tied: Tensor | None = None
    """(columns,) int64: columns of equal numbers must have the same scale; None: each has its own."""
    behind_norm: bool = False
    """Whether a norm is divided, and no matrix."""

    def shared(self, scale: Tensor) -> Tensor:
        """Scales (columns,) made equal where they must be: the largest of those tied."""
        if self.tied is None:
            return scale
        most = scale.new_zeros(int(self.tied.max()) + 1).scatter_reduce(0, self.tied, scale, "amax")
        return most[self.tied]


@torch.no_grad()
def fold(block: Block, place: Fold, scale: Tensor) -> Tensor:
    """Divide the input of the matrices at `place` by `scale` (columns,), and scale the matrices in return.

    The block computes what it did. Gives the scales that were taken: tied ones are equal, and norms are divided such
    that their weights are bf16 numbers.
    """
    taken = place.divide(place.shared(scale.float()))
    for name in place.matrices:
        weight = block.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        weight.mul_(taken.to(weight.dtype))
    return taken


def folds(block: Block) -> list[Fold]:
    """All such places of a block, in the order of its computation."""
    attention = getattr(block, "attention", None)
    found = _behind_norms(block)
    if isinstance(attention, Attention):
        found += _values(attention)
    elif isinstance(attention, LatentAttention):
        if attention.mla.q_rank is not None:
            found += _norm(attention.q_latent_norm, ("attention.q_up",))
        found += _norm(attention.kv_latent_norm, ("attention.kv_up",))
    elif isinstance(attention, LinearAttention):
        found += _norm(attention.norm, ("attention.out",))
    return found + _inner(getattr(block, "mlp", None))


def _behind_norms(block: Block) -> list[Fold]:
    """The norms in front of attention and MLP, as far as nothing else sees what comes out of them."""
    config = block.config
    before = config.block in ("pre", "sandwich", "parallel", "parallel_two")
    if not before or config.carry_normed:
        return []
    of_attention = () if isinstance(block, QueryBlock) else _readers(getattr(block, "attention", None))
    of_mlp = _readers(getattr(block, "mlp", None))
    if config.block == "parallel":
        return _norm(block.attention_norm, (*of_attention, *of_mlp)) if of_attention and of_mlp else []
    found = _norm(block.attention_norm, of_attention) if of_attention else []
    return found + (_norm(block.mlp_norm, of_mlp) if of_mlp else [])


def _readers(part: nn.Module | None) -> tuple[str, ...]:
    """The matrices that read the input of attention or of an MLP; none for a mixture of experts."""
    if isinstance(part, MLP):
        return ("mlp.gate_up",) if part.gated else ("mlp.up",)
    if isinstance(part, LatentAttention):
        return ("attention.q" if part.mla.q_rank is None else "attention.q_down", "attention.kv_down")
    if isinstance(part, LinearAttention):
        return ("attention.linear_qkv", "attention.gate")
    if isinstance(part, Attention):
        return ("attention.qkv",) if hasattr(part, "qkv") else ("attention.query",)
    return ()


def _norm(norm: nn.Module | None, matrices: tuple[str, ...]) -> list[Fold]:
    if not isinstance(norm, RMSNorm | LayerNorm) or norm.weight is None or norm.weight.dim() > 1:
        return []
    return [Fold(matrices, lambda scale: _divide_norm(norm, scale), behind_norm=True)]


def _divide_norm(norm: RMSNorm | LayerNorm, scale: Tensor) -> Tensor:
    """Divide what a norm gives. Its new weight is a bf16 number, so that no file format changes it any more."""
    assert norm.weight is not None
    one = 1.0 if norm.plus_one else 0.0
    factor = norm.weight.float() + one
    stored = (factor / scale - one).bfloat16().float()
    taken = factor / (stored + one)
    usable = taken.isfinite() & (taken > 0)  # not so for a feature that the norm switches off
    taken = torch.where(usable, taken, 1.0)
    norm.weight.copy_(torch.where(usable, stored, norm.weight.float()))
    bias = norm.bias if isinstance(norm, LayerNorm) else None
    if bias is not None:
        bias.div_(taken.to(bias.dtype))
    return taken


def _values(attention: Attention) -> list[Fold]:
    """The values, whose weighted sums attention.out reads: query heads that share a value share its scales."""
    config = attention.config
    if type(attention) is not Attention or config.qkv_clip:
        return []
    size, each = config.head_dim, config.heads // config.kv_heads
    columns = torch.arange(config.heads * size)
    tied = columns // (size * each) * size + columns % size
    first = (config.heads + config.kv_heads) * size

    def divide(scale: Tensor) -> Tensor:
        rows = scale.view(config.kv_heads, each, size)[:, 0].flatten()
        _divide_rows(attention.qkv, slice(first, first + config.kv_heads * size), rows)
        return scale

    return [Fold(("attention.out",), divide, None if each == 1 else tied)]


def _inner(mlp: nn.Module | None) -> list[Fold]:
    """The inner features of an MLP: the linear half of a gated one, or ReLU, which a positive factor passes."""
    if not isinstance(mlp, MLP) or not (mlp.gated or mlp.activation == "relu"):
        return []
    matrix = mlp.gate_up if mlp.gated else mlp.up
    inner = mlp.down.weight.shape[1]

    def divide(scale: Tensor) -> Tensor:
        _divide_rows(matrix, slice(len(matrix.weight) - inner, None), scale)
        return scale

    return [Fold(("mlp.down",), divide)]


def _divide_rows(matrix: Linear, rows: slice, scale: Tensor) -> None:
    matrix.weight[rows] /= scale.to(matrix.weight.dtype)[:, None]
    if matrix.bias is not None:
        matrix.bias[rows] /= scale.to(matrix.bias.dtype)
