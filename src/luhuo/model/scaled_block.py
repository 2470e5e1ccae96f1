"""A pre-norm block whose matrices have entries of size one: each product is divided by the root of its inputs.

That is the NTK parametrisation (Jacot et al. 2018), as the CPM models publish it. The roots are taken where they meet
linear maps only: of the width behind the norms, of what comes out before it is added. A pruned block may lack one of
its two branches, or both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from luhuo.model.block import Block
from luhuo.model.layers import Context

if TYPE_CHECKING:
    from luhuo.model.config import ModelConfig


class ScaledBlock(Block):
    """Attention and MLP, as far as the layer has them, with inputs and outputs divided by roots of widths."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.attends, self.feeds = layer not in config.no_attention, layer not in config.no_mlp
        if not self.attends:
            del self.attention, self.attention_norm
        if not self.feeds:
            del self.mlp, self.mlp_norm

    def forward(self, x: Tensor, context: Context) -> Tensor:
        config = self.config
        inwards = config.hidden_size**-0.5
        if self.attends:
            added = self.attention(self.attention_norm(x) * inwards, context)
            x = self._add(x, added * (config.heads * config.head_dim) ** -0.5)
        if self.feeds:
            assert self.mlp_norm is not None
            added = self._feed(self.mlp_norm(x) * inwards, context)
            x = self._add(x, added * config.intermediate_size**-0.5)
        return x
