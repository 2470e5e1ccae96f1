"""Attention of encoders and encoder-decoders: both ways or causal, across to another text, and disentangled.

Shapes: B batch, T time, S what is looked at, H heads, D head size, C hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from luhuo.model.attention import attend
from luhuo.model.layers import Linear
from luhuo.model.recompute import Recompute
from luhuo.model.rope import rotate
from luhuo.model.stack_config import StackConfig

if TYPE_CHECKING:
    from luhuo.model.cross_cache import CrossCache

Rotation = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class StackContext:
    """What all blocks of one forward pass share."""

    masks: Mapping[int, Tensor | None]
    """By window (0: none): additive (B or 1, 1 or H, T, S), or None where causality, if any, says it all."""
    causal: bool
    """Whether a missing mask means that only what stands before is visible."""
    rope: Rotation | None = None
    local_rope: Rotation | None = None
    rows: Tensor | None = None
    """Disentangled: (T, T), the row of the distance table for each pair."""
    distances: Tensor | None = None
    """Disentangled: the distance table (2 · span, C)."""
    memory: Tensor | None = None
    """Encoder-decoder: the encoder's states (B, S, C); None where the cache has their keys and values."""
    memory_mask: Tensor | None = None
    """Additive (B, 1, T, S)."""
    cache: CrossCache | None = None
    recompute: Recompute = "none"


class SelfAttention(nn.Module):
    """Multi-head attention within one text (Vaswani et al. 2017); query, key and value projections are one matrix."""

    def __init__(self, config: StackConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer, self.window = config, layer, config.window(layer)
        self.qkv = Linear(config.hidden_size, 3 * config.heads * config.head_dim, bias=config.qkv_bias)
        self.out = Linear(config.heads * config.head_dim, config.hidden_size, bias=config.out_bias)
        self.local = self.window > 0 and config.local_rope is not None

    def forward(self, x: Tensor, context: StackContext) -> Tensor:
        batch, time, _ = x.shape
        query, key, value = self.queries_keys_values(x, context)
        if context.cache is not None:
            key, value = context.cache.append(self.layer, key, value)
        mixed = self._mix(query, key, value, context)
        return self.out(mixed.transpose(1, 2).reshape(batch, time, -1))

    def queries_keys_values(self, x: Tensor, context: StackContext) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, T, D) of x (B, T, C), as attention compares them."""
        heads = self.qkv(x).view(*x.shape[:2], 3, self.config.heads, self.config.head_dim)
        query, key, value = heads.unbind(2)  # (B, T, H, D)
        tables = context.local_rope if self.local else context.rope
        if tables is not None:
            query, key = (rotate(part, *tables, self.config.rope.interleaved) for part in (query, key))
        return query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)

    def _mix(self, query: Tensor, key: Tensor, value: Tensor, context: StackContext) -> Tensor:
        mask = context.masks[self.window]
        return attend(query, key, value, mask, scale=self.config.attention_scale, causal=context.causal)


class DisentangledAttention(SelfAttention):
    """Scores of content with content, content with distance, and distance with content (He et al. 2021, eq. 4).

    They share one scale, (D · number of terms)^-0.5. The distances' own keys and queries are projections of one
    table: by the tokens' matrices (`shared`, DeBERTa-v3) or by matrices of their own.
    """

    def __init__(self, config: StackConfig, layer: int) -> None:
        super().__init__(config, layer)
        assert config.disentangled is not None
        self.settings = config.disentangled
        inner = config.heads * config.head_dim
        own = not self.settings.shared
        self.distance_key = self.distance_query = None
        if own and self.settings.content_to_position:
            self.distance_key = Linear(config.hidden_size, inner, bias=config.qkv_bias)
        if own and self.settings.position_to_content:
            self.distance_query = Linear(config.hidden_size, inner, bias=config.qkv_bias)

    def _mix(self, query: Tensor, key: Tensor, value: Tensor, context: StackContext) -> Tensor:
        assert context.rows is not None and context.distances is not None
        scale = (self.config.head_dim * self.settings.terms) ** -0.5
        of_query, of_key = self._distances(context.distances.to(query.dtype))  # (H, 2 · span, D)
        shape = (*query.shape[:2], *context.rows.shape)
        bias = query.new_zeros(())
        if of_key is not None:
            bias = bias + (query @ of_key.mT).gather(-1, context.rows.expand(shape))
        if of_query is not None:
            found = (key @ of_query.mT).gather(-1, context.rows.mT.expand(shape))  # rows are keys here
            bias = bias + found.mT
        bias = bias * scale
        mask = context.masks[0]
        bias = bias.expand(shape) if mask is None else bias + mask
        return attend(query, key, value, bias, scale=scale, causal=False)

    def _distances(self, table: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Queries and keys of all distances (H, 2 · span, D); None for a term that the model does not have."""
        if self.settings.shared:
            query, key, _ = self.qkv(table).chunk(3, -1)
        else:
            query = None if self.distance_query is None else self.distance_query(table)
            key = None if self.distance_key is None else self.distance_key(table)
        query = query if self.settings.position_to_content else None
        key = key if self.settings.content_to_position else None
        return self._by_head(query), self._by_head(key)

    def _by_head(self, projected: Tensor | None) -> Tensor | None:
        return None if projected is None else projected.view(len(projected), self.config.heads, -1).transpose(0, 1)


class CrossAttention(nn.Module):
    """Attention from a decoder to the encoder's states, whose keys and values are made once and cached."""

    def __init__(self, config: StackConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer = config, layer
        inner = config.heads * config.head_dim
        self.query = Linear(config.hidden_size, inner, bias=config.qkv_bias)
        self.key_value = Linear(config.hidden_size, 2 * inner, bias=config.qkv_bias)
        self.out = Linear(inner, config.hidden_size, bias=config.out_bias)

    def forward(self, x: Tensor, context: StackContext) -> Tensor:
        batch, time, _ = x.shape
        query = self.query(x).view(batch, time, self.config.heads, -1).transpose(1, 2)
        key, value = self._memory(context)
        scale = self.config.attention_scale
        mixed = attend(query, key, value, context.memory_mask, scale=scale, causal=False)
        return self.out(mixed.transpose(1, 2).reshape(batch, time, -1))

    def _memory(self, context: StackContext) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, S, D) of the encoder's states."""
        if context.memory is None:
            assert context.cache is not None
            return context.cache.cross[self.layer]
        batch, slots, _ = context.memory.shape
        both = self.key_value(context.memory).view(batch, slots, 2, self.config.heads, -1)
        key, value = (part.transpose(1, 2) for part in both.unbind(2))
        if context.cache is not None:
            context.cache.cross.append((key, value))
        return key, value


class Convolution(nn.Module):
    """n(x + f(conv(embeddings))) beside DeBERTa-v2's first block; it never reaches into another document."""

    def __init__(self, config: StackConfig, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.hidden_size, config.hidden_size, kernel))
        self.bias = nn.Parameter(torch.zeros(config.hidden_size))

    def forward(self, x: Tensor, segments: Tensor | None) -> Tensor:
        """(B, T, C) to (B, T, C), one product for each tap."""
        time, kernel = x.shape[1], self.weight.shape[2]
        half = kernel // 2
        padded = nn.functional.pad(x, (0, 0, half, half))
        numbers = None if segments is None else nn.functional.pad(segments, (half, half), value=-1)
        total = self.bias.to(x.dtype).expand_as(x)
        for tap in range(kernel):
            part = padded[:, tap : tap + time]
            if numbers is not None:
                part = part * (numbers[:, tap : tap + time] == segments)[..., None]
            total = total + part @ self.weight[..., tap].mT.to(x.dtype)
        return total
