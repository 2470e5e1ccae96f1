"""The parts of a decoder block. Weights are cast to the activations' dtype where they are used, so fp32 master
weights train in bf16 without autocast, which would cast activations back and forth around every operation.

Shapes: B batch, T time, H query heads, K key/value heads, G = H / K, D head size, C hidden size, S cached slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from luhuo.model.attention import attend
from luhuo.model.fused import norm_rotate, rms_norm, swiglu

if TYPE_CHECKING:
    from luhuo.model.cache import KVCache
    from luhuo.model.config import ModelConfig


@dataclass(frozen=True)
class Context:
    """What all layers of one forward pass share."""

    cos: Tensor
    """(B or 1, T, 1, D), in the activations' dtype."""
    sin: Tensor
    """Like `cos`; its first half carries the minus sign of the rotation."""
    mask: Tensor | None
    """(B, 1, T, S) additive, or None: causal when T > 1, everything visible when T = 1."""
    cache: KVCache | None


class Linear(nn.Module):
    """A matrix without bias, `rows` output features by `columns` input features."""

    def __init__(self, columns: int, rows: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class RMSNorm(nn.Module):
    """The weight of an RMS normalisation over `size` features."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


def rope_tables(positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines (…, T, 1, D) of rotary positions, rotating halves (Su et al. 2021)."""
    steps = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = positions[..., None].float() * theta**-steps  # (…, T, D/2)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], -1).unsqueeze(-2).to(dtype), torch.cat([-sin, sin], -1).unsqueeze(-2).to(dtype)


class Attention(nn.Module):
    """Grouped-query attention (Ainslie et al. 2023) with QK-norm; query, key and value projections are one matrix."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.heads, self.kv_heads, self.head_dim = layer, config.heads, config.kv_heads, config.head_dim
        self.qkv = Linear(config.hidden_size, sum(config.qkv_rows))
        self.q_norm = RMSNorm(config.head_dim, config.norm_eps)
        self.k_norm = RMSNorm(config.head_dim, config.norm_eps)
        self.out = Linear(config.heads * config.head_dim, config.hidden_size)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        batch, time, _ = x.shape
        heads = self.qkv(x).view(batch, time, -1, self.head_dim)  # (B, T, H + 2K, D)
        turned, value = heads.split([self.heads + self.kv_heads, self.kv_heads], 2)
        weight = torch.cat([self.q_norm.weight.expand(self.heads, -1), self.k_norm.weight.expand(self.kv_heads, -1)])
        turned = norm_rotate(turned, weight, context.cos, context.sin, self.q_norm.eps).transpose(1, 2)
        query, key = turned.split([self.heads, self.kv_heads], 1)  # (B, H, T, D), (B, K, T, D)
        value = value.transpose(1, 2)
        if context.cache is not None:
            key, value = context.cache.append(self.layer, key, value)
        return self.out(attend(query, key, value, context.mask).transpose(1, 2).reshape(batch, time, -1))


class MLP(nn.Module):
    """SwiGLU (Shazeer 2020): down(silu(gate(x)) · up(x)); gate and up are one matrix."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up = Linear(config.hidden_size, 2 * config.intermediate_size)
        self.down = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(swiglu(self.gate_up(x)))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.attention = Attention(config, layer)
        self.mlp_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        x = x + self.attention(self.attention_norm(x), context)
        return x + self.mlp(self.mlp_norm(x))
