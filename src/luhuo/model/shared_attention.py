"""Cross-layer attention (Brandon et al. 2024): some layers attend to the keys and values of a layer before them.

Every `kv_share`-th layer has keys and values, which the layers up to the next one use too; so only these are cached.
As in Hunyuan-Large, the shared keys are rotated but not normalised: each layer has a norm of its own for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from luhuo.model.attention import attend
from luhuo.model.layers import Attention, Context, Linear
from luhuo.model.rope import rotate

if TYPE_CHECKING:
    from luhuo.model.config import ModelConfig


class SharedAttention(Attention):
    """Attention whose layers without keys have `query` in place of `qkv`."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.source = config.kv_source(layer)
        self.query = None
        if self.source != layer:
            del self.qkv
            self.query = Linear(config.hidden_size, config.qkv_rows[0], bias=config.qkv_bias)

    def forward(self, x: Tensor, context: Context, asked: Tensor | None = None) -> Tensor:
        """Attention of x (B, T, C) over the keys of its source and the cache."""
        config = self.config
        batch, time, _ = x.shape
        projected = (self.qkv if self.query is None else self.query)(x)
        heads = projected.view(batch, time, -1, config.head_dim)
        if self.query is None:
            turned, value = heads.split([config.heads + config.kv_heads, config.kv_heads], 2)
            query, key = self._turned(turned, context).transpose(1, 2).split([config.heads, config.kv_heads], 1)
            value = value.transpose(1, 2)
            if context.cache is not None:
                key, value = context.cache.append(self.layer, key, value)
            context.shared[self.layer] = key, value
        else:
            query = self._turned(heads, context).transpose(1, 2)
            key, value = context.shared[self.source]
        if self.q_norm is not None and self.k_norm is not None:
            query, key = self.q_norm(query), self.k_norm(key)
        mixed = attend(query, key, value, context.masks[self.window], scale=config.attention_scale)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _turned(self, heads: Tensor, context: Context) -> Tensor:
        rotates = self.rotates and context.rope is not None
        return rotate(heads, *context.rope, self.rope.interleaved) if rotates and context.rope else heads
