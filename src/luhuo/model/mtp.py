"""Multi-token prediction (DeepSeek-V3 2024, section 2.2): blocks that predict the token after the next one, and so on.

The block of depth k takes the hidden states of depth k - 1 (of the decoder, for the first) and the embedding of the
token k places further, and gives the hidden states from which the shared head predicts the token behind that one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from luhuo.model.block import Block
from luhuo.model.layers import Context, Linear
from luhuo.model.norms import make_norm
from luhuo.model.recompute import whole_block

if TYPE_CHECKING:
    from luhuo.model.config import ModelConfig


class Prediction(nn.Module):
    """One depth: two norms, a merge of what they give, a block like the decoder's last, and a norm for the head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.embedding_norm = make_norm(config, hidden)
        self.hidden_norm = make_norm(config, hidden)
        self.merge = Linear(2 * hidden, hidden)
        self.block = Block(config, config.layers - 1)
        self.block.attention.layer = 0  # each depth has a cache of its own
        self.norm = make_norm(config, hidden)

    def forward(self, hidden: Tensor, embedded: Tensor, context: Context) -> Tensor:
        """Normalised hidden states (B, T, C) from those one depth above and the embeddings of the tokens to come."""
        both = torch.cat([self.embedding_norm(embedded), self.hidden_norm(hidden)], -1)
        return self.norm(whole_block(context.recompute, self.block, self.merge(both), context))
