"""The parts of a decoder block. Weights are cast to the activations' dtype where they are used, so fp32 master
weights train in bf16 without autocast, which would cast activations back and forth around every operation.

Shapes: B batch, T time, H query heads, K key/value heads, G = H / K, D head size, C hidden size, S cached slots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask

from luhuo.kernels import fp8
from luhuo.model import fused_attention
from luhuo.model.adaptable import Adaptable
from luhuo.model.attention import attend
from luhuo.model.cast_linear import WIDE, cast_linear, casts, gated_down
from luhuo.model.fused import norm_rotate, swiglu
from luhuo.model.masks import CausalMasks, put_ahead
from luhuo.model.norms import RMSNorm, make_norm
from luhuo.model.recompute import Recompute
from luhuo.model.rope import rotate

if TYPE_CHECKING:
    from luhuo.model.cache import KVCache
    from luhuo.model.config import Activation, ModelConfig
    from luhuo.model.stack_config import StackConfig


@dataclass(frozen=True)
class Context:
    """What all layers of one forward pass share."""

    rope: tuple[Tensor, Tensor] | None
    """Cosines and signed sines (B or 1, T, 1, D), in the activations' dtype."""
    local_rope: tuple[Tensor, Tensor] | None
    """The same for layers with a window, where they have their own."""
    masks: Mapping[int, Tensor | BlockMask | None]
    """By window (0: none): additive (B or 1, 1 or H, T, S), in blocks for flex attention, or None: causal when T > 1,
    all visible when T = 1."""
    cache: KVCache | None
    real: Tensor | None = None
    """(B, T) bool: which tokens are no padding; None: all. Only statistics over tokens ask for it."""
    causal: bool = True
    """Whether nobody sees later tokens; otherwise the masks say it all."""
    query_scale: Tensor | None = None
    """Factors on the queries (B or 1, 1, T, 1), where they depend on the position."""
    shared: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Keys and values by layer, as far as further layers use them."""
    positions: Tensor | None = None
    """(B or 1, T), or (B, T, 2) with two rotary axes."""
    recompute: Recompute = "none"
    ahead: Sequence[tuple[Tensor, Tensor]] | None = None
    """By layer, keys and values (1, K, P, D) that every query sees besides: those of virtual tokens."""


class Linear(Adaptable):
    """`rows` output features by `columns` input features."""

    def __init__(self, columns: int, rows: int, *, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns))
        self.register_parameter("bias", nn.Parameter(torch.zeros(rows)) if bias else None)
        self.fp8 = False
        """Whether training multiplies in 8 bits (`kernels.fp8`)."""

    def dense(self, dtype: torch.dtype) -> Tensor:
        return self.weight.to(dtype)

    def product(self, x: Tensor) -> Tensor:
        if self.fp8 and self.training and fp8.fits(x, self.weight):
            found = fp8.linear(x, self.weight)
            return found if self.bias is None else found + self.bias.to(x.dtype)
        if self.bias is None and casts(self.weight, x.dtype):
            return cast_linear(x, self.weight)
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "tanh": torch.tanh,
}


class Attention(nn.Module):
    """Multi-head, multi-query (Shazeer 2019) or grouped-query attention (Ainslie et al. 2023).

    Query, key and value projections are one matrix.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer, self.window = config, layer, config.window(layer)
        heads, kv_heads, size = config.heads, config.kv_heads, config.head_dim
        self.qkv = Linear(config.hidden_size, sum(config.qkv_rows), bias=config.qkv_bias)
        shapes = {"head": ((size,), (size,)), "heads": ((heads, size), (kv_heads, size))}
        shapes["full"] = ((heads * size,), (kv_heads * size,))
        self.q_norm = self.k_norm = None
        if config.qk_norm != "none":
            of_queries, of_keys = shapes[config.qk_norm]
            self.q_norm = make_norm(config, *of_queries, bias=config.qk_norm_bias)
            self.k_norm = make_norm(config, *of_keys, bias=config.qk_norm_bias)
        self.sinks = nn.Parameter(torch.zeros(heads)) if config.attention_sinks else None
        self.out = Linear(heads * size, config.hidden_size, bias=config.out_bias)
        self.local = config.local_rope is not None and self.window > 0
        self.rope = config.local_rope if self.local and config.local_rope is not None else config.rope
        self.rotates = config.positions == "rope" and layer not in config.unrotated
        whole = (self.rope.dim or size) == size and not self.rope.interleaved and not config.qk_norm_after_rope
        per_head = config.qk_norm in ("head", "heads") and config.norm == "rms"
        self.fused = self.rotates and whole and per_head
        self.heads = fused_attention.Heads(
            heads, kv_heads, size, config.attention_scale or size**-0.5, config.norm_eps
        )
        self.one_step = fused_attention.fits(config, layer)

    def forward(self, x: Tensor, context: Context, asked: Tensor | None = None) -> Tensor:
        """Attention of x (B, T, C) over itself and the cache; of `asked` (B or 1, T, C), if given, over x."""
        config = self.config
        batch, time, _ = x.shape
        projected = self.qkv(x)
        if asked is not None:
            rows = config.qkv_rows[0]
            projected = torch.cat([self.qkv(asked)[..., :rows].expand(batch, -1, -1), projected[..., rows:]], -1)
        if config.qkv_clip:
            projected = projected.clamp(-config.qkv_clip, config.qkv_clip)
        if self.one_step and asked is None and self._in_one_step(projected, context):
            return self.out(self._one_step(projected, context))
        query, key, value = self._split(projected, context)
        if context.cache is not None:
            key, value = context.cache.append(self.layer, key, value)
        mask = context.masks[self.window]
        if context.ahead is not None:
            key, value, mask = put_ahead(context.ahead[self.layer], key, value, mask)
        mixed = attend(
            query,
            key,
            value,
            mask,
            scale=config.attention_scale,
            softcap=config.attention_softcap,
            sinks=self.sink_scores,
            causal=context.causal,
        )
        return self.out(mixed.transpose(1, 2).reshape(batch, time, -1))

    def queries_keys_values(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, T, D), keys and values (B, K, T, D) of x (B, T, C), as attention compares them."""
        projected = self.qkv(x)
        if self.config.qkv_clip:
            projected = projected.clamp(-self.config.qkv_clip, self.config.qkv_clip)
        return self._split(projected, context)

    def _split(self, projected: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        config = self.config
        heads = projected.view(*projected.shape[:2], -1, config.head_dim)  # (B, T, H + 2K, D)
        turned, value = heads.split([config.heads + config.kv_heads, config.kv_heads], 2)
        query, key = self._positioned(turned, context)  # (B, H, T, D), (B, K, T, D)
        if context.query_scale is not None:
            query = query * context.query_scale
        return query, key, value.transpose(1, 2)

    def _in_one_step(self, projected: Tensor, context: Context) -> bool:
        masks, cache, before = context.masks, context.cache, 0
        if not isinstance(masks, CausalMasks) or not context.causal or context.rope is None:
            return False
        if cache is not None:
            if projected.requires_grad or not cache.gives_back:
                return False
            before = cache.longest
            if before and projected.shape[1] == 1:
                return False
        seen = masks.follow(before, self.window) if before else masks.spans
        plain = context.query_scale is None and context.ahead is None
        return seen and plain and fused_attention.usable(projected, self.heads, before)

    def _one_step(self, projected: Tensor, context: Context) -> Tensor:
        tables, cache = context.local_rope if self.local else context.rope, context.cache
        assert tables is not None and isinstance(context.masks, CausalMasks)
        first = context.masks.first_seen(self.window, len(projected))
        given = projected, self._norm_weight(), *tables, first
        if cache is None:
            return fused_attention.attention(*given, context.masks.gaps, self.heads)
        return fused_attention.attention_behind(*given, self.heads, partial(cache.append, self.layer))

    def _norm_weight(self) -> Tensor | None:
        """Weights (H + K, D) of the norms of queries and keys."""
        if self.q_norm is None or self.k_norm is None:
            return None
        assert isinstance(self.q_norm, RMSNorm) and isinstance(self.k_norm, RMSNorm)
        of_queries, of_keys = self.q_norm.factor, self.k_norm.factor
        return torch.cat([of_queries.expand(self.heads.queries, -1), of_keys.expand(self.heads.keys, -1)])

    @property
    def sink_scores(self) -> Tensor | None:
        """The scores of these heads' keys without value."""
        return self.sinks

    def _positioned(self, turned: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Queries and keys, (B, T, H + K, D), normalised and rotated in the model's order."""
        config, tables = self.config, context.local_rope if self.local else context.rope
        if self.fused and tables is not None:
            weight = self._norm_weight()
            assert weight is not None
            turned = norm_rotate(turned, weight, *tables, config.norm_eps)
        else:
            if not config.qk_norm_after_rope:
                turned = self._normalised(turned)
            if self.rotates and tables is not None:
                turned = rotate(turned, *tables, self.rope.interleaved)
            if config.qk_norm_after_rope:
                turned = self._normalised(turned)
        query, key = turned.transpose(1, 2).split([config.heads, config.kv_heads], 1)
        return query, key

    def _normalised(self, turned: Tensor) -> Tensor:
        if self.q_norm is None or self.k_norm is None:
            return turned
        query, key = turned.split([self.config.heads, self.config.kv_heads], 2)
        if self.config.qk_norm == "full":
            query, key = self.q_norm(query.flatten(2)).view_as(query), self.k_norm(key.flatten(2)).view_as(key)
        else:
            query, key = self.q_norm(query), self.k_norm(key)
        return torch.cat([query, key], 2)


class MLP(nn.Module):
    """down(f(up(x))), or gated: down(f(gate(x)) · up(x)) with gate and up in one matrix (Shazeer 2020)."""

    def __init__(self, config: ModelConfig | StackConfig, inner: int | None = None) -> None:
        super().__init__()
        inner = config.intermediate_size if inner is None else inner
        if config.gated:
            self.gate_up = Linear(config.hidden_size, 2 * inner, bias=config.mlp_bias)
        else:
            self.up = Linear(config.hidden_size, inner, bias=config.mlp_bias)
        self.down = Linear(inner, config.hidden_size, bias=config.mlp_bias)
        self.gated = config.gated
        self.activation: Activation = config.activation

    def forward(self, x: Tensor) -> Tensor:
        act = ACTIVATIONS[self.activation]
        if not self.gated:
            return self.down(act(self.up(x)))
        both = self.gate_up(x)
        if self.activation == "silu" and isinstance(self.down, Linear):
            weight = self.down.weight
            alone = self.down.adapter is None and self.down.rounding is None
            plain = self.down.bias is None and not self.down.fp8 and alone
            if len(weight) >= WIDE and plain and casts(weight, x.dtype):
                return gated_down(both, weight)
        if self.activation == "silu":
            return self.down(swiglu(both))
        gate, up = both.chunk(2, -1)
        return self.down(act(gate) * up)
