"""The decoder: token ids to logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.config import ModelConfig
from luhuo.model.layers import Block, Context, Linear, RMSNorm, rope_tables

if TYPE_CHECKING:
    from luhuo.model.cache import KVCache
    from luhuo.tokenizer.tokenizer import Tokenizer


class Decoder(nn.Module):
    """A causal language model. Parameters may be fp32 while it computes in bf16: see `compute_in`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer: Tokenizer | None = None
        self._dtype: torch.dtype | None = None
        self.embedding = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.unembedding = None if config.tie_embeddings else Linear(config.hidden_size, config.vocab_size)
        counted, parts = sum(p.numel() for p in self.parameters()), config.parameters()
        assert counted == sum(parts.values()), f"{counted} parameters, the parts {parts} add up to another number"

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.embedding.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of activations and logits."""
        return self._dtype or self.embedding.dtype

    def compute_in(self, dtype: torch.dtype | None) -> Decoder:
        """Use this dtype for activations and products, whatever the parameters are kept in; None: the parameters'."""
        self._dtype = dtype
        return self

    def forward(
        self,
        ids: Tensor,
        *,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Logits (batch, time, vocab) of `ids` (batch, time) int64; the arguments are those of `hidden`."""
        return self.head(self.hidden(ids, segments=segments, positions=positions, cache=cache))

    def hidden(
        self,
        ids: Tensor,
        *,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """The normalised last hidden states (batch, time, hidden).

        `segments` (batch, time): 0 is padding, equal numbers are one document; attention never crosses documents and
        positions restart in each. With a `cache`, `segments` only says which of the new tokens are padding (on the
        right), and the new tokens stand behind those in the cache. `positions` (batch, time) overrides the positions.
        """
        if cache is not None:
            context = self._cached_context(ids, positions, cache)
        else:
            context = self._context(ids, segments, positions)
        x = F.embedding(ids, self.embedding).to(self.dtype)
        for block in self.blocks:
            x = block(x, context)
        if cache is not None:
            cache.advance(ids.shape[1] if segments is None else (segments != 0).sum(1).tolist())
        return self.norm(x)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (…, vocab) of hidden states (…, hidden)."""
        return F.linear(hidden, self.head_weight.to(hidden.dtype))

    @property
    def head_weight(self) -> Tensor:
        """The output embedding (vocab, hidden)."""
        return self.embedding if self.unembedding is None else self.unembedding.weight

    def _context(self, ids: Tensor, segments: Tensor | None, positions: Tensor | None) -> Context:
        mask = None
        if segments is not None and bool((segments != segments[:, :1]).any()):
            mask = document_mask(segments, self.dtype)
            positions = document_positions(segments) if positions is None else positions
        if positions is None:
            positions = torch.arange(ids.shape[1], device=ids.device)[None]
        return Context(*self._rope(positions), mask, None)

    def _cached_context(self, ids: Tensor, positions: Tensor | None, cache: KVCache) -> Context:
        time = ids.shape[1]
        cache.reserve(cache.longest + time)
        if positions is None:
            new = torch.arange(time, device=ids.device)
            positions = cache.longest + new[None] if cache.even else cache.starts()[:, None] + new
        return Context(*self._rope(positions), cache.mask(time, self.dtype), cache)

    def _rope(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return rope_tables(positions, self.config.head_dim, self.config.rope_theta, self.dtype)

    def check_ids(self, largest: int) -> None:
        """Raise `LuhuoError` if token id `largest` is not in the vocabulary (a tokenizer of another model)."""
        if largest >= self.config.vocab_size:
            raise LuhuoError(
                tr("A token id lies outside the model's vocabulary.", "词元编号超出模型词表。"),
                expected=f"< {self.config.vocab_size}",
                found=largest,
                fix=tr("Use the tokenizer this model was made with.", "请使用与该模型配套的分词器。"),
            )


def document_positions(segments: Tensor) -> Tensor:
    """Positions (batch, time) that restart at 0 where the segment number changes."""
    index = torch.arange(segments.shape[1], device=segments.device)
    starts = torch.zeros_like(segments, dtype=torch.long)
    starts[:, 1:] = torch.where(segments[:, 1:] != segments[:, :-1], index[1:], 0)
    return index - starts.cummax(1).values


def document_mask(segments: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive mask (batch, 1, time, time): 0 for earlier tokens of the same document, minus infinity elsewhere.

    Padding is a document of its own, so that no row is without a visible key.
    """
    time = segments.shape[1]
    causal = torch.ones(time, time, dtype=torch.bool, device=segments.device).tril()
    seen = (segments[:, :, None] == segments[:, None, :]) & causal
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)[:, None]
