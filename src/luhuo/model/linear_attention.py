"""Linear attention with decay: lightning attention (Qin et al. 2024; MiniMax-01 2025, section 2.2).

out_i = Σ_{j ≤ i} exp(-λ·(i - j)) · (q_i · k_j) · v_j, without softmax. It is written as attention is, over all keys,
so that documents, ragged caches and forgetting work as they do there; the sum could also be carried along as a state.

Shapes: B batch, T time, H heads, D head size, S cached slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from luhuo.model.layers import ACTIVATIONS, Context, Linear
from luhuo.model.norms import RMSNorm

if TYPE_CHECKING:
    from luhuo.model.config import ModelConfig

EPS = 1e-6
"""Of the norm, whatever the blocks use: so the published models have it."""
QUERIES = 512
"""Rows of scores held at a time."""


class LinearAttention(nn.Module):
    """Parameters: `linear_qkv` (queries, keys and values of H heads), `norm`, `gate`, `out`."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer = config, layer
        width = config.heads * config.head_dim
        self.linear_qkv = Linear(config.hidden_size, 3 * width)
        self.norm = RMSNorm(width, eps=EPS)
        self.gate = Linear(config.hidden_size, width)
        self.out = Linear(width, config.hidden_size)
        self.decays = decays(config.heads, layer, config.layers)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        batch, time, _ = x.shape
        active = ACTIVATIONS[self.config.activation](self.linear_qkv(x))
        heads = active.view(batch, time, 3, self.config.heads, -1)
        query, key, value = (part.transpose(1, 2) for part in heads.unbind(2))  # (B, H, T, D)
        slots = torch.arange(time, device=x.device)[None]
        if context.cache is not None:
            slots = context.cache.starts()[:, None] + slots
            key, value = context.cache.append(self.layer, key, value)
        mask = context.masks[0]
        assert mask is None or isinstance(mask, Tensor)  # models with such layers get no blocks
        mixed = self._mix(query, key, value, slots, mask)
        mixed = self.norm(mixed.transpose(1, 2).flatten(2))
        return self.out(torch.sigmoid(self.gate(x)) * mixed)

    def _mix(self, query: Tensor, key: Tensor, value: Tensor, slots: Tensor, mask: Tensor | None) -> Tensor:
        """The sums (B, H, T, D) for queries in `slots` (B or 1, T); of the mask counts only where it hides."""
        rate = torch.tensor(self.decays, device=query.device)[:, None, None]
        keys = torch.arange(key.shape[2], device=query.device)
        parts = []
        for start in range(0, query.shape[2], QUERIES):
            distance = (slots[:, start : start + QUERIES, None] - keys).unsqueeze(1)  # (B or 1, 1, T, S)
            hidden = distance < 0
            if mask is not None:
                hidden = hidden | mask[:, :, start : start + QUERIES].isinf()
            decay = torch.exp(-rate * distance.clamp(min=0)).masked_fill(hidden, 0).to(query.dtype)
            parts.append((query[:, :, start : start + QUERIES] @ key.mT * decay) @ value)
        return torch.cat(parts, 2)


def decays(heads: int, layer: int, layers: int) -> list[float]:
    """λ of each head: ALiBi's slopes, which shrink towards the last layer."""
    share = 1 - layer / (layers - 1 + 1e-5) + 1e-5
    return [2 ** (-8 * (head + 1) / heads) * share for head in range(heads)]
