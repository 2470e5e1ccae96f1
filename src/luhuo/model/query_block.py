"""PanGu-α's last block (Zeng et al. 2021, section 3.2): learned queries, one for each position, ask what comes next.

The stream is normalised before it; keys and values come from the stream as in every block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from luhuo.model.block import Block
from luhuo.model.layers import Attention, Context
from luhuo.model.norms import make_norm

if TYPE_CHECKING:
    from luhuo.model.config import ModelConfig


class QueryBlock(Block):
    """A pre-norm block whose queries are embeddings of the positions."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.input_norm = make_norm(config, config.hidden_size)
        self.queries = nn.Parameter(torch.empty(config.max_positions, config.hidden_size))

    def forward(self, x: Tensor, context: Context) -> Tensor:
        assert context.positions is not None and self.mlp_norm is not None and isinstance(self.attention, Attention)
        x = self.input_norm(x)
        asked = F.embedding(context.positions, self.queries).to(x.dtype)
        x = self._add(x, self.attention(self.attention_norm(x), context, asked))
        return self._add(x, self._feed(self.mlp_norm(x), context))
