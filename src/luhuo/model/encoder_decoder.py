"""The encoder-decoder: a text is read both ways, another is written."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.base import LanguageModel
from luhuo.model.cross_cache import CrossCache
from luhuo.model.encoder_decoder_config import EncoderDecoderConfig
from luhuo.model.layers import Linear
from luhuo.model.stack import Stack


class EncoderDecoder(LanguageModel):
    """T5, BART and their kin. Parameters may be fp32 while it computes in bf16: see `compute_in`."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.empty(config.vocab_size, config.encoder.width))
        self.encoder = Stack(config.encoder)
        self.decoder = Stack(config.decoder, decoder=True)
        self.unembedding = None if config.tie_embeddings else Linear(config.decoder.hidden_size, config.vocab_size)
        self.head_bias = nn.Parameter(torch.zeros(config.vocab_size)) if config.head_bias else None

    def forward(
        self,
        ids: Tensor | None,
        decoder_ids: Tensor,
        *,
        segments: Tensor | None = None,
        decoder_segments: Tensor | None = None,
        cache: CrossCache | None = None,
    ) -> Tensor:
        """Logits (batch, time, vocab) that follow `decoder_ids` (batch, time); the arguments are those of `hidden`."""
        found = self.hidden(ids, decoder_ids, segments=segments, decoder_segments=decoder_segments, cache=cache)
        return self.head(found)

    def hidden(
        self,
        ids: Tensor | None,
        decoder_ids: Tensor,
        *,
        segments: Tensor | None = None,
        decoder_segments: Tensor | None = None,
        cache: CrossCache | None = None,
        memory: Tensor | None = None,
    ) -> Tensor:
        """The decoder's last states (batch, time, hidden).

        `ids` (batch, length) int64 is what is read; `segments` and `decoder_segments` tell documents apart, 0 is
        padding, and document n of `decoder_ids` looks at document n of `ids`. With a `cache` the first call reads
        `ids`; later calls pass None and only the new `decoder_ids`, and `decoder_segments` says which of those are
        padding (on the right). `memory`, the result of `encode`, may stand in for `ids`.
        """
        if memory is None and not (cache and cache.cross):
            if ids is None:
                raise LuhuoError(
                    tr(
                        "There is nothing to read: no ids, and the cache is empty.",
                        "没有可读的输入：无 ids，缓存也为空。",
                    )
                )
            memory = self.encode(ids, segments=segments)
        if cache is not None and memory is not None:
            cache.cross, cache.segments = [], segments
        return self.decoder(
            self._embed(decoder_ids),
            segments=decoder_segments,
            memory=memory,
            memory_segments=segments if cache is None else cache.segments,
            cache=cache,
            recompute=self.recomputed,
        )

    def encode(self, ids: Tensor, *, segments: Tensor | None = None) -> Tensor:
        """The encoder's states (batch, length, hidden) of `ids` (batch, length)."""
        return self.encoder(self._embed(ids), segments=segments, recompute=self.recomputed)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (…, vocab) of the decoder's states (…, hidden)."""
        if self.config.logit_scale != 1:
            hidden = hidden * self.config.logit_scale
        bias = None if self.head_bias is None else self.head_bias.to(hidden.dtype)
        return F.linear(hidden, self.head_weight.to(hidden.dtype), bias)

    @property
    def head_weight(self) -> Tensor:
        """The output embedding (vocab, hidden)."""
        return self.embedding if self.unembedding is None else self.unembedding.weight

    def _embed(self, ids: Tensor) -> Tensor:
        x = F.embedding(ids, self.embedding).to(self.dtype)
        return x if self.config.embedding_scale == 1 else x * self.config.embedding_scale


@torch.inference_mode()
def generate_greedily(
    model: EncoderDecoder,
    ids: Tensor,
    *,
    segments: Tensor | None = None,
    max_tokens: int = 64,
    first_id: int | None = None,
) -> list[list[int]]:
    """The likeliest next token again and again, for each row of `ids` (batch, length), up to a stop token (which is
    the last of the result) or `max_tokens`.

    The model's forced first and last tokens are honoured; `first_id` stands in for the former (the language that a
    multilingual model shall write).
    """
    config = model.config
    if config.start_id is None:
        raise LuhuoError(
            tr("The config names no token to start from.", "配置没有指明起始词元。"),
            expected="decoder_start_token_id",
        )
    first_id = config.forced_first_id if first_id is None else first_id
    cache = CrossCache(config, len(ids), max_tokens + 1, model.dtype, model.device)
    written: list[list[int]] = [[] for _ in range(len(ids))]
    last = ids.new_full((len(ids), 1), config.start_id)
    source: Tensor | None = ids
    for step in range(max_tokens):
        logits = model(source, last, segments=segments, cache=cache)[:, -1]
        source, chosen = None, logits.argmax(-1)
        if step == 0 and first_id is not None:
            chosen = torch.full_like(chosen, first_id)
        elif step == max_tokens - 1 and config.forced_last_id is not None:
            chosen = torch.full_like(chosen, config.forced_last_id)
        open_rows = [not row or row[-1] not in config.stop_ids for row in written]
        for row, token, still in zip(written, chosen.tolist(), open_rows, strict=True):
            if still:
                row.append(token)
        if all(row[-1] in config.stop_ids for row in written):
            break
        last = chosen[:, None]
    return written
