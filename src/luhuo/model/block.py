"""One block of a decoder: attention and feed-forward on the residual stream.

Shapes: B batch, T time, C hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor, nn

from luhuo.model.layers import MLP, Attention, Context
from luhuo.model.linear_attention import LinearAttention
from luhuo.model.mla import LatentAttention
from luhuo.model.moe import MoE
from luhuo.model.norms import make_norm
from luhuo.model.recompute import feed_forward
from luhuo.model.shared_attention import SharedAttention

if TYPE_CHECKING:
    from luhuo.model.config import ModelConfig


def _attention(config: ModelConfig, layer: int) -> Attention | LatentAttention | LinearAttention:
    if layer in config.linear_layers:
        return LinearAttention(config, layer)
    if config.mla:
        return LatentAttention(config, layer)
    return (SharedAttention if config.kv_share > 1 else Attention)(config, layer)


class Block(nn.Module):
    """Attention and MLP (or experts) on the residual stream, with norms where `config.block` says."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config = config
        self.attention_norm = make_norm(config, config.hidden_size)
        self.attention = _attention(config, layer)
        self.mlp_norm = None if config.block == "parallel" else make_norm(config, config.hidden_size)
        self.mlp = MoE(config) if config.sparse(layer) else MLP(config)
        sandwich = config.block == "sandwich"
        self.attention_output_norm = make_norm(config, config.hidden_size) if sandwich else None
        self.mlp_output_norm = make_norm(config, config.hidden_size) if sandwich else None

    def forward(self, x: Tensor, context: Context) -> Tensor:
        if self.config.block.startswith("parallel"):
            normed = self.attention_norm(x)
            other = normed if self.mlp_norm is None else self.mlp_norm(x)
            return self._add(x, self.attention(normed, context) + self._feed(other, context))
        assert self.mlp_norm is not None
        x = self._branch(x, lambda y: self.attention(y, context), self.attention_norm, self.attention_output_norm)
        return self._branch(x, lambda y: self._feed(y, context), self.mlp_norm, self.mlp_output_norm)

    def _feed(self, x: Tensor, context: Context) -> Tensor:
        arguments = (x, context.real) if isinstance(self.mlp, MoE) else (x,)
        return feed_forward(context.recompute, self.mlp, *arguments)

    def _branch(
        self, x: Tensor, function: Callable[[Tensor], Tensor], norm: nn.Module, output_norm: nn.Module | None
    ) -> Tensor:
        kind = self.config.block
        if kind == "post":
            return norm(self._add(x, function(x)))
        if kind == "output":
            return self._add(x, norm(function(x)))
        normed = norm(x)
        added = function(normed)
        if output_norm is not None:
            added = output_norm(added)
        return self._add(normed if self.config.carry_normed else x, added)

    def _add(self, x: Tensor, added: Tensor) -> Tensor:
        config = self.config
        if config.carry_scale != 1:
            x = x * config.carry_scale
        return x + added if config.branch_scale == 1 else x + config.branch_scale * added
