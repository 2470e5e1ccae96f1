"""A stack of blocks: an encoder, or either half of an encoder-decoder. Embeddings go in, states come out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.config import RopeConfig
from luhuo.model.cross_cache import CrossCache
from luhuo.model.layers import ACTIVATIONS, MLP, Linear
from luhuo.model.masks import bidirectional_mask, causal_mask, cross_mask, document_positions
from luhuo.model.norms import LayerNorm, RMSNorm
from luhuo.model.recompute import Recompute, feed_forward, whole_block
from luhuo.model.relative import deberta_rows, t5_buckets
from luhuo.model.rope import tables
from luhuo.model.stack_attention import (
    Convolution,
    CrossAttention,
    DisentangledAttention,
    Rotation,
    SelfAttention,
    StackContext,
)
from luhuo.model.stack_config import StackConfig


def stack_norm(config: StackConfig, size: int) -> RMSNorm | LayerNorm:
    """The norm a stack uses, over `size` features."""
    if config.norm == "rms":
        return RMSNorm(size, eps=config.norm_eps)
    return LayerNorm(size, eps=config.norm_eps, bias=config.norm_bias)


def check_length(found: int, limit: int) -> None:
    """Raise `LuhuoError` for a text that is longer than a table of positions."""
    if found > limit:
        raise LuhuoError(
            tr("The text is longer than the model's table of positions.", "文本超出模型位置表的长度。"),
            expected=f"<= {limit}",
            found=found,
            fix=tr("Cut the text, or split it.", "请截断或切分文本。"),
        )


class StackBlock(nn.Module):
    """Attention, in a decoder attention to the encoder's states, and MLP on the residual stream."""

    def __init__(self, config: StackConfig, layer: int, *, decoder: bool) -> None:
        super().__init__()
        self.pre = config.block == "pre"
        width = config.hidden_size
        self.attention_norm = stack_norm(config, width) if layer > 0 or config.first_norm else None
        self.attention = (DisentangledAttention if config.disentangled else SelfAttention)(config, layer)
        self.cross_norm = stack_norm(config, width) if decoder else None
        self.cross = CrossAttention(config, layer) if decoder else None
        self.mlp_norm = stack_norm(config, width)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, context: StackContext) -> Tensor:
        x = self._branch(x, lambda y: self.attention(y, context), self.attention_norm)
        cross = self.cross
        if cross is not None:
            x = self._branch(x, lambda y: cross(y, context), self.cross_norm)
        return self._branch(x, lambda y: feed_forward(context.recompute, self.mlp, y), self.mlp_norm)

    def _branch(self, x: Tensor, function: Callable[[Tensor], Tensor], norm: nn.Module | None) -> Tensor:
        if self.pre:
            return x + function(x if norm is None else norm(x))
        added = x + function(x)
        return added if norm is None else norm(added)


class Stack(nn.Module):
    """Embeddings (B, T, width) to states (B, T, hidden). A `decoder` looks back only, and at an encoder's states."""

    def __init__(self, config: StackConfig, *, decoder: bool = False) -> None:
        super().__init__()
        self.config, self.decoder = config, decoder
        width, hidden = config.width, config.hidden_size
        rows = config.max_positions + config.position_offset
        self.positions = nn.Parameter(torch.empty(rows, width)) if config.positions == "learned" else None
        self.embedding_norm = stack_norm(config, width) if config.embedding_norm else None
        self.projection = Linear(width, hidden, bias=True) if width != hidden else None
        buckets = config.positions == "buckets"
        self.bucket_bias = nn.Parameter(torch.empty(config.buckets, config.heads)) if buckets else None
        settings = config.disentangled
        self.distances = nn.Parameter(torch.empty(2 * settings.span, hidden)) if settings else None
        self.distance_norm = stack_norm(config, hidden) if settings and settings.norm else None
        convolves = settings is not None and settings.kernel > 0
        self.convolution = Convolution(config, settings.kernel) if settings and convolves else None
        self.convolution_norm = stack_norm(config, hidden) if convolves else None
        self.blocks = nn.ModuleList(StackBlock(config, layer, decoder=decoder) for layer in range(config.blocks))
        self.norm = stack_norm(config, hidden) if config.final_norm else None

    def forward(
        self,
        x: Tensor,
        *,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        memory: Tensor | None = None,
        memory_segments: Tensor | None = None,
        cache: CrossCache | None = None,
        recompute: Recompute = "none",
    ) -> Tensor:
        """`segments` (B, T): 0 is padding, equal numbers are one document; attention never crosses documents and
        positions restart in each. A decoder's document n looks at the document n of `memory` (B, S, hidden), the
        states of an encoder. With a `cache`, `segments` only says which of the new tokens are padding (on the right).
        """
        if segments is not None and cache is None and not bool((segments != segments[:, :1]).any()):
            segments = None
        limit = self.config.max_positions
        unsure = positions is not None or x.shape[1] + (cache.longest if cache else 0) > limit
        if cache is None:
            if positions is None:
                one = torch.arange(x.shape[1], device=x.device)[None]
                positions = one if segments is None else document_positions(segments)
            masks = self._masks(x, segments)
        else:
            slots = self._slots(x.shape[1], cache)
            positions = slots if positions is None else positions
            masks = {0: self._cached_mask(x, slots, cache)}
        numbers = None if cache is not None else segments  # what is cached of a row is one document
        context = StackContext(
            masks=masks,
            causal=self.decoder and self.bucket_bias is None,  # a learned bias needs the way with its gradient
            rope=self._rope(self.config.rope, positions, x),
            local_rope=self._rope(self.config.local_rope, positions, x),
            rows=self._rows(x),
            distances=self.distances if self.distance_norm is None else self.distance_norm(self.distances),
            memory=memory,
            memory_mask=cross_mask(numbers, memory_segments, x.shape[1], x.dtype) if self.decoder else None,
            cache=cache,
            recompute=recompute,
        )
        if unsure and self.positions is not None:
            check_length(int(positions.max()) + 1, limit)
        x = self._blocks(self._embedded(x, positions), segments, context)
        if cache is not None:
            cache.advance(x.shape[1] if segments is None else (segments != 0).sum(1).tolist())
        return x

    def _blocks(self, x: Tensor, segments: Tensor | None, context: StackContext) -> Tensor:
        embedded = x
        for place, block in enumerate(self.config.order):
            x = whole_block(context.recompute, self.blocks[block], x, context)
            if place == 0 and self.convolution is not None and self.convolution_norm is not None:
                assert self.config.disentangled is not None
                act = ACTIVATIONS[self.config.disentangled.kernel_activation]
                x = self.convolution_norm(x + act(self.convolution(embedded, segments)))
        return x if self.norm is None else self.norm(x)

    def _embedded(self, x: Tensor, positions: Tensor) -> Tensor:
        """Embeddings with positions, normalised, in the blocks' width."""
        if self.positions is not None:
            x = x + F.embedding(positions + self.config.position_offset, self.positions).to(x.dtype)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        return x if self.projection is None else self.projection(x)

    def _slots(self, time: int, cache: CrossCache) -> Tensor:
        """Where new tokens go in the cache: (1 or B, T)."""
        before = cache.longest
        cache.reserve(before + time)
        slots = torch.arange(time, device=cache.keys[0].device)[None]
        return before + slots if cache.even else cache.starts()[:, None] + slots

    def _masks(self, x: Tensor, segments: Tensor | None) -> dict[int, Tensor | None]:
        """Masks of a whole pass, by window."""
        time = x.shape[1]
        index = torch.arange(time, device=x.device)[None]
        if self.decoder:
            # Without a mask attention is causal by itself; with T5's biases it has to be written out.
            plain = segments is None and self.bucket_bias is None
            mask = None if plain else causal_mask(index, time, x.dtype, segments=segments)
            return {0: self._biased(mask, index, time, x.dtype)}
        masks = {w: bidirectional_mask(time, x.dtype, segments, window=w, device=x.device)
                 for w in {0, *self.config.windows}}  # fmt: skip
        return {window: self._biased(mask, index, time, x.dtype) for window, mask in masks.items()}

    def _cached_mask(self, x: Tensor, slots: Tensor, cache: CrossCache) -> Tensor | None:
        """Mask of new tokens over everything that is cached, themselves included."""
        before, time = cache.longest, x.shape[1]
        plain = before == 0 or (cache.even and time == 1)
        written = not plain or (self.bucket_bias is not None and time > 1)
        mask = causal_mask(slots, before + time, x.dtype) if written else None
        return self._biased(mask, slots, before + time, x.dtype)

    def _biased(self, mask: Tensor | None, queries: Tensor, keys: int, dtype: torch.dtype) -> Tensor | None:
        """The mask with T5's biases added: (B or 1, H, T, S)."""
        if self.bucket_bias is None:
            return mask
        config = self.config
        distance = torch.arange(keys, device=queries.device) - queries[..., None]  # (B or 1, T, S)
        buckets = t5_buckets(distance, config.buckets, config.bucket_distance, both_ways=not self.decoder)
        bias = F.embedding(buckets, self.bucket_bias).permute(0, 3, 1, 2).to(dtype)
        return bias if mask is None else mask + bias

    def _rope(self, rope: RopeConfig | None, positions: Tensor, x: Tensor) -> Rotation | None:
        config = self.config
        if config.positions != "rope" or rope is None:
            return None
        return tables(rope, rope.dim or config.head_dim, positions, x.shape[1], config.max_positions, x.dtype)

    def _rows(self, x: Tensor) -> Tensor | None:
        settings = self.config.disentangled
        if settings is None:
            return None
        return deberta_rows(x.shape[1], settings.span, settings.buckets, settings.longest, x.device)
