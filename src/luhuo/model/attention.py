"""Softmax attention, and which of the ways to compute it is taken.

On a CPU, PyTorch's fused attention is slow in bf16 (forward and backward of 16 x 256 tokens, 6 heads of 32: 40 ms on
one core). Here the queries go in blocks of 64, each against the keys up to its own end: batched matrix products, no
work above the diagonal, the key heads of a group shared instead of repeated. That takes 10 ms, with or without
document masks. The probabilities are kept for the backward pass, or of longer rows computed again (Dao et al. 2022).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask

from luhuo.model.flex import attend_in_blocks

BLOCK = 64
LONGEST_BLOCKED = 2048
LONGEST_KEPT = 512
"""Probabilities take heads · time bytes a token in bf16: of 2,048 tokens more than all else that a layer keeps."""
QUERIES = 512
"""Rows of scores held at a time where attention is written out."""


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | BlockMask | None,
    *,
    scale: float | None = None,
    softcap: float = 0.0,
    sinks: Tensor | None = None,
    causal: bool = True,
) -> Tensor:
    """Attention of query (B, H, T, D) over key (B, K, S, D) and value (B, K, S, E), K a divisor of H: (B, H, T, E).

    `mask` (B or 1, 1 or H, T, S) is additive. Without one it is causal when T > 1, and everything is visible when
    T = 1; if not `causal`, the mask alone decides. `scale` multiplies the scores (D^-0.5 by default), `softcap`
    squashes them into ± itself (Gemma 2), `sinks` (H,) are scores of a key without value (gpt-oss). A block mask (of
    `flex.block_mask`) goes without sinks.
    """
    batch, heads, time, size = query.shape
    kv_heads, slots = key.shape[1], key.shape[2]
    if scale is None:
        scale = float(size**-0.5)
    if isinstance(mask, BlockMask):
        assert sinks is None, "a block mask goes without sinks"
        return attend_in_blocks(query, key, value, mask, scale, softcap)
    if softcap or sinks is not None:
        return _plain_attention(query, key, value, mask, scale, softcap, sinks, causal)
    if time == 1:  # the heads of a group become query rows: keys are read once and never repeated
        rows = query.reshape(batch, kv_heads, heads // kv_heads, size)
        if mask is not None and mask.shape[1] > 1:
            mask = mask.view(mask.shape[0], kv_heads, -1, slots)
        out = F.scaled_dot_product_attention(rows, key, value, attn_mask=mask, scale=scale)
        return out.reshape(batch, heads, 1, value.shape[3])
    if causal and query.device.type == "cpu" and time == slots and time <= LONGEST_BLOCKED:
        return _BlockAttention.apply(query, key, value, mask, scale)  # type: ignore[return-value]
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=causal and mask is None, enable_gqa=heads > kv_heads, scale=scale
    )


def _plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float,
    softcap: float,
    sinks: Tensor | None,
    causal: bool,
) -> Tensor:
    """Scores, softmax and weighted values, written out; the scores of QUERIES rows are held at a time."""
    batch, heads, time, size = query.shape
    kv_heads, slots = key.shape[1], key.shape[2]
    grouped = (query * scale).view(batch, kv_heads, -1, time, size)
    parts = []
    for start in range(0, time, QUERIES):
        block = grouped[:, :, :, start : start + QUERIES]
        count = block.shape[3]
        scores = (block.reshape(batch, kv_heads, -1, size) @ key.mT).view(batch, heads, count, slots)
        if softcap:
            scores = softcap * torch.tanh(scores / softcap)
        if mask is not None:
            scores = scores + mask[:, :, start : start + count]
        elif causal and time > 1:
            below = torch.ones(count, slots, dtype=torch.bool, device=query.device).tril(slots - time + start)
            scores = scores.masked_fill(~below, -torch.inf)
        if sinks is not None:
            nothing = sinks.to(scores.dtype)[:, None, None].expand(batch, heads, count, 1)
            scores = torch.cat([scores, nothing], -1)
        share = torch.softmax(scores.to(torch.promote_types(scores.dtype, torch.float32)), -1).to(query.dtype)[
            ..., :slots
        ]
        rows = share.view(batch, kv_heads, -1, slots) @ value
        parts.append(rows.view(batch, heads, count, -1))
    return torch.cat(parts, 2)


class _BlockAttention(torch.autograd.Function):
    """Causal attention in blocks of queries. Inside: (B · K, G · rows, D), G = H / K query heads for each key head."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        batch, heads, time, size = query.shape
        kv_heads, width = key.shape[1], value.shape[3]
        grouped = (query * scale).view(batch, kv_heads, -1, time, size)
        keys, values = key.reshape(-1, time, size), value.reshape(-1, time, width)
        if time > LONGEST_KEPT:  # no part of a larger tensor, which would be kept whole
            keys, values = keys.contiguous(), values.contiguous()
        result = torch.empty(batch, time, heads, width, dtype=query.dtype).transpose(1, 2)
        blocks = result.unflatten(1, (kv_heads, -1))
        kept: list[Tensor | None] = []
        for start in range(0, time, BLOCK):
            end = min(start + BLOCK, time)
            rows = grouped[:, :, :, start:end].reshape(batch * kv_heads, -1, size)
            share = _shares(rows, keys, mask, start, end, batch)
            blocks[:, :, :, start:end] = torch.bmm(share, values[:, :end]).view(
                batch, kv_heads, -1, end - start, width
            )
            kept += [rows, share if time <= LONGEST_KEPT else None]
        ctx.save_for_backward(keys, values, mask if time > LONGEST_KEPT else None, *kept)
        ctx.scale = scale
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        keys, values, mask, *kept = ctx.saved_tensors
        gradient = gradients[0]
        batch, heads, time, width = gradient.shape
        kv_heads, size = keys.shape[0] // batch, keys.shape[2]
        grouped = gradient.unflatten(1, (kv_heads, -1))
        query_slope = torch.empty(batch, time, heads, size, dtype=gradient.dtype).transpose(1, 2)
        blocks = query_slope.unflatten(1, (kv_heads, -1))
        key_slope, value_slope = torch.zeros_like(keys), torch.zeros_like(values)
        for index, start in enumerate(range(0, time, BLOCK)):
            end = min(start + BLOCK, time)
            rows, share = kept[2 * index], kept[2 * index + 1]
            share = _shares(rows, keys, mask, start, end, batch) if share is None else share
            slope = grouped[:, :, :, start:end].reshape(batch * kv_heads, -1, width)
            value_slope[:, :end] += torch.bmm(share.mT, slope)
            inner = torch.bmm(slope, values[:, :end].mT)
            inner = torch._softmax_backward_data(inner, share, -1, share.dtype)  # pyright: ignore[reportPrivateImportUsage]
            moved = torch.bmm(inner, keys[:, :end]).mul_(ctx.scale)
            blocks[:, :, :, start:end] = moved.view(batch, kv_heads, -1, end - start, size)
            key_slope[:, :end] += torch.bmm(inner.mT, rows)
        shape = (batch, kv_heads, time, -1)
        return query_slope, key_slope.view(shape), value_slope.view(shape), None, None


def _shares(rows: Tensor, keys: Tensor, mask: Tensor | None, start: int, end: int, batch: int) -> Tensor:
    """Probabilities (B · K, G · rows, end) of the queries from `start` to `end`, scaled before, over the keys so far.

    `keys` (B · K, T, D); `mask` as `attend` has it, or None: causal.
    """
    scores = torch.bmm(rows, keys[:, :end].mT)
    seen = scores.view(batch, -1, end - start, end)  # (B, H, rows, end)
    if mask is None:
        size = end - start
        seen[..., start:] += torch.full((size, size), -torch.inf, dtype=scores.dtype).triu_(1)
    else:
        seen += mask[:, :, start:end, :end]
    return torch.softmax(scores, -1)
