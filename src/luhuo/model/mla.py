"""Multi-head latent attention (DeepSeek-V2 2024, section 2.1), in its naive and in its absorbed form.

Keys and values of all heads are linear in one small latent vector per token; only that and one rotary key, shared by
all heads, are cached. Naive (training, prefill): keys and values are expanded and attended to as usual. Absorbed
(decoding): the key's expansion is applied to the query and the value's to the result, so that attention runs in the
latent space with a single key head, and no token of the past is ever expanded.

Shapes: B batch, T time, H heads, N features without position, R rotary ones, V of a value, L latent, S cached slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask

from luhuo.model.attention import attend
from luhuo.model.layers import Context, Linear
from luhuo.model.norms import RMSNorm
from luhuo.model.rope import rotate, yarn_mscale

if TYPE_CHECKING:
    from luhuo.model.config import ModelConfig

EPS = 1e-6
"""Of the latents' norms, whatever the blocks use: so the published models have it."""


class LatentAttention(nn.Module):
    """MLA. Parameters: `q` or (`q_down`, `q_latent_norm`, `q_up`), `kv_down`, `kv_latent_norm`, `kv_up`, `out`."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        assert config.mla is not None
        self.config, self.mla, self.layer, self.window = config, config.mla, layer, config.window(layer)
        mla, hidden, heads = config.mla, config.hidden_size, config.heads
        rows = heads * (mla.nope_dim + mla.rope_dim)
        if mla.q_rank is None:
            self.q = Linear(hidden, rows)
        else:
            self.q_down = Linear(hidden, mla.q_rank, bias=config.qkv_bias)
            self.q_latent_norm = RMSNorm(mla.q_rank, eps=EPS)
            self.q_up = Linear(mla.q_rank, rows)
        self.kv_down = Linear(hidden, mla.kv_rank + mla.rope_dim, bias=config.qkv_bias)
        self.kv_latent_norm = RMSNorm(mla.kv_rank, eps=EPS)
        self.kv_up = Linear(mla.kv_rank, heads * (mla.nope_dim + mla.value_dim))
        self.out = Linear(heads * mla.value_dim, hidden, bias=config.out_bias)
        self.rotates = config.positions == "rope" and layer not in config.unrotated
        self.scale = attention_scale(config)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        mla = self.mla
        batch, time, _ = x.shape
        query = self.q(x) if mla.q_rank is None else self.q_up(self.q_latent_norm(self.q_down(x)))
        query = query.view(batch, time, self.config.heads, -1)
        if context.query_scale is not None:
            query = query * context.query_scale.transpose(1, 2)
        latent, key = self.kv_down(x).split([mla.kv_rank, mla.rope_dim], -1)
        plain, turned, key = *query.split([mla.nope_dim, mla.rope_dim], -1), key.unsqueeze(2)
        if self.rotates and context.rope is not None:
            turned, key = (rotate(part, *context.rope, self.config.rope.interleaved) for part in (turned, key))
        memory = torch.cat([self.kv_latent_norm(latent), key.squeeze(2)], -1).unsqueeze(1)  # (B, 1, T, L + R)
        if context.cache is not None:
            memory, _ = context.cache.append(self.layer, memory, memory[..., :0])
        mask = context.masks[self.window]
        if not self._absorbs(time, memory.shape[2]):
            return self.out(self._naive(plain, turned, memory, mask))
        assert mask is None or isinstance(mask, Tensor)  # blocks come with training passes only
        return self.out(self._absorbed(plain, turned, memory, mask))

    def _absorbs(self, time: int, slots: int) -> bool:
        """Whether the absorbed form is the cheaper one: T queries on S slots, per head.

        It costs N·L + L·V more for each query and 2·L - N - V more for each pair, the naive one L·(N + V) a slot.
        """
        expand = self.mla.kv_rank * (self.mla.nope_dim + self.mla.value_dim)
        wider = 2 * self.mla.kv_rank - self.mla.nope_dim - self.mla.value_dim
        return time < slots and time * expand + time * slots * wider < slots * expand

    def _naive(self, plain: Tensor, turned: Tensor, memory: Tensor, mask: Tensor | BlockMask | None) -> Tensor:
        """Every slot's keys (B, H, S, N + R) and values (B, H, S, V), and plain attention: (B, T, H · V)."""
        mla, heads = self.mla, self.config.heads
        latent, shared = memory.squeeze(1).split([mla.kv_rank, mla.rope_dim], -1)
        both = self.kv_up(latent).unflatten(-1, (heads, -1)).transpose(1, 2)
        key, value = both.split([mla.nope_dim, mla.value_dim], -1)
        key = torch.cat([key, shared.unsqueeze(1).expand(-1, heads, -1, -1)], -1)
        query = torch.cat([plain, turned], -1).transpose(1, 2)
        return attend(query, key, value, mask, scale=self.scale).transpose(1, 2).flatten(2)

    def _absorbed(self, plain: Tensor, turned: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """Multi-query attention over the cached latents, which are the values too: (B, T, H · V)."""
        mla, heads = self.mla, self.config.heads
        weight = self.kv_up.effective(memory.dtype).view(heads, -1, mla.kv_rank)
        of_keys, of_values = weight.split([mla.nope_dim, mla.value_dim], 1)  # (H, N, L), (H, V, L)
        inside = torch.einsum("bthn,hnl->bhtl", plain, of_keys)
        query = torch.cat([inside, turned.transpose(1, 2)], -1)
        mixed = attend(query, memory, memory[..., : mla.kv_rank], mask, scale=self.scale)
        return torch.einsum("bhtl,hvl->bthv", mixed, of_values).flatten(2)


def attention_scale(config: ModelConfig) -> float:
    """Factor on the scores: (N + R)^-0.5, or what the config says; sharper by mscale² over a stretched context."""
    assert config.mla is not None
    scale = config.attention_scale or float((config.mla.nope_dim + config.mla.rope_dim) ** -0.5)
    if config.rope.kind == "yarn" and config.rope.mscale_all_dim:
        scale *= yarn_mscale(config.rope.factor, config.rope.mscale_all_dim) ** 2
    return scale
