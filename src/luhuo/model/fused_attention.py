"""Attention from the projection to the mixed heads in one differentiable step: bf16 on a CPU, with compiled parts.

Heads are taken apart, normalised and turned in one pass over the projection; scores are made for blocks of queries by
matrix products over the keys they can see at all, so that nothing is computed above the diagonal nor, in packed rows,
for documents that lie before all of the block's. Probabilities of short rows are kept for the backward pass; those of
long ones are computed again, which costs one product in three but no memory that grows with the square of the length
(Dao et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from luhuo.kernels import fused

if TYPE_CHECKING:
    from luhuo.model.config import ModelConfig

BLOCK = 128
"""Queries that are multiplied with their keys at a time."""
KEPT = 512
"""Tokens of a row up to which the probabilities are kept."""


@dataclass(frozen=True)
class Heads:
    """What is fixed about the heads of a layer."""

    queries: int
    keys: int
    size: int
    scale: float
    eps: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Query heads, key heads, features."""
        return self.queries, self.keys, self.size


def fits(config: ModelConfig, layer: int) -> bool:
    """Whether the attention of this layer can be one step, apart from masks, cache and where it is computed."""
    rope = (config.local_rope if config.window(layer) else None) or config.rope
    turned = config.positions == "rope" and layer not in config.unrotated
    whole = (rope.dim or config.head_dim) == config.head_dim and not rope.interleaved and not config.qk_norm_after_rope
    normed = config.qk_norm == "none" or (config.qk_norm in ("head", "heads") and config.norm == "rms")
    return turned and whole and normed and not config.attention_softcap and not config.attention_sinks


def usable(projected: Tensor, heads: Heads, before: int = 0) -> bool:
    """Whether a projection (B, T, rows) can come here, behind so many tokens."""
    return before + projected.shape[1] <= fused.LONGEST and heads.size <= fused.WIDEST and fused.usable(projected)


def attention(
    projected: Tensor,
    weight: Tensor | None,
    cos: Tensor,
    sin: Tensor,
    first: Tensor | None,
    gaps: Tensor | None,
    heads: Heads,
) -> Tensor:
    """Causal attention (B, T, H · D) of a projection (B, T, (H + 2K) · D) that holds queries, keys and values.

    `weight` (H + K, D): RMSNorm of the heads before they are turned; None: none. Cosines and signed sines (B or 1, T,
    1, D) are of rotating halves. `first` (B, T) int32: the first token that each may look at; None: token 0. `gaps`
    (B, T, 2) int32, with `first`: tokens from … to that each does not look at after all.
    """
    return _Attention.apply(projected, weight, cos, sin, first, gaps, heads)  # type: ignore[return-value]


def attention_behind(
    projected: Tensor,
    weight: Tensor | None,
    cos: Tensor,
    sin: Tensor,
    first: Tensor | None,
    heads: Heads,
    keep: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
) -> Tensor:
    """As `attention`, without gradients, over what came before as well.

    `keep` gets the new keys and values (B, K, T, D) and gives back all that there are, (B, K, S, D), S >= T, the new
    ones last. `first` must be None where S > T.
    """
    query, key, value, _ = fused.split_heads(projected, weight, heads.eps, cos, sin, heads.scale, heads.shape)
    mixed, _ = _mixed((query, *keep(key, value)), first, None, heads, keep=False)
    return mixed


def _mixed(
    parts: tuple[Tensor, ...], first: Tensor | None, gaps: Tensor | None, heads: Heads, *, keep: bool
) -> tuple[Tensor, list[Tensor]]:
    """The mixed heads (B, T, H · D), and the probabilities of each block if they are to be kept."""
    query, key, value = parts
    batch, _, time, size = query.shape
    before = key.shape[2] - time
    assert not before or first is None
    mixed = torch.empty_like(query)
    rows, keys, values = query.view(-1, time, size), key.flatten(0, 1), value.flatten(0, 1)
    shares: list[Tensor] = []
    for low, start, end in _blocks(time, first):
        share = _share(rows, keys, (first, gaps), heads, low, start, end)
        _put(mixed, torch.bmm(share, values[:, low : before + end]), heads, start, end)
        if keep:
            shares.append(share)
    return fused.swap_heads(mixed).view(batch, time, -1), shares


class _Attention(torch.autograd.Function):
    """Inside: (B · K, G · rows, D), with G = H / K query heads for each key head."""

    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,
        weight: Tensor | None,
        cos: Tensor,
        sin: Tensor,
        first: Tensor | None,
        gaps: Tensor | None,
        heads: Heads,
    ) -> Tensor:
        *parts, norms = fused.split_heads(projected, weight, heads.eps, cos, sin, heads.scale, heads.shape)
        time = projected.shape[1]
        mixed, shares = _mixed(tuple(parts), first, gaps, heads, keep=projected.requires_grad and time <= KEPT)
        normed = None if weight is None else projected  # without norms the gradient does not need it
        ctx.save_for_backward(normed, weight, cos, sin, first, gaps, norms, *parts, *shares)
        ctx.heads, ctx.blocks = heads, _blocks(time, first)
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        projected, weight, cos, sin, first, gaps, norms, query, key, value, *shares = ctx.saved_tensors
        heads: Heads = ctx.heads
        batch, _, time, size = query.shape
        mixed_slope = fused.swap_heads(gradients[0].view(batch, time, heads.queries, size))
        rows, keys, values = query.view(-1, time, size), key.view(-1, time, size), value.view(-1, time, size)
        query_slope, key_slope, value_slope = torch.empty_like(query), torch.zeros_like(keys), torch.zeros_like(values)
        for index, (low, start, end) in enumerate(ctx.blocks):
            share = shares[index] if shares else _share(rows, keys, (first, gaps), heads, low, start, end)
            slope = _block(mixed_slope.view(-1, time, size), heads, start, end)
            value_slope[:, low:end].baddbmm_(share.mT, slope)
            inner = torch.bmm(slope, values[:, low:end].mT)
            fused.softmax_backward(inner, share)
            _put(query_slope, torch.bmm(inner, keys[:, low:end]), heads, start, end)
            key_slope[:, low:end].baddbmm_(inner.mT, _block(rows, heads, start, end))
        slopes = (query_slope, key_slope.view_as(key), value_slope.view_as(value))
        slope, of_weight = fused.split_heads_backward(slopes, projected, weight, norms, cos, sin, heads.scale)
        return slope, None if of_weight is None else of_weight.to(weight.dtype), None, None, None, None, None


def _blocks(time: int, first: Tensor | None) -> list[tuple[int, int, int]]:
    """For each block of queries the first key that any of them sees, the first query, and the end of both."""
    starts = range(0, time, BLOCK)
    lows = [0] * len(starts) if first is None else [int(part.min()) for part in first.split(BLOCK, 1)]
    return [(low, start, min(start + BLOCK, time)) for low, start in zip(lows, starts, strict=True)]


def _block(rows: Tensor, heads: Heads, start: int, end: int) -> Tensor:
    """Queries start … end of (B · H, T, D) as (B · K, G · rows, D)."""
    return rows[:, start:end].reshape(len(rows) * heads.keys // heads.queries, -1, heads.size)


def _put(into: Tensor, block: Tensor, heads: Heads, start: int, end: int) -> None:
    into[:, :, start:end] = block.view(len(into), heads.queries, end - start, heads.size)


def _share(
    rows: Tensor,
    keys: Tensor,
    seen: tuple[Tensor | None, Tensor | None],
    heads: Heads,
    low: int,
    start: int,
    end: int,
) -> Tensor:
    """Probabilities (B · K, G · rows, keys) of the queries start … end over keys from `low` to the last one's own.

    `seen`: first, gaps. The last query's key is the last of `keys`.
    """
    before = keys.shape[1] - rows.shape[1]
    scores = torch.bmm(_block(rows, heads, start, end), keys[:, low : before + end].mT)
    first, gaps = seen
    fused.causal_softmax(scores, first, heads.keys, before + start, end - start, low, gaps)
    return scores
