"""The cache of an encoder-decoder: the decoder's own keys and values, and those of the encoder's states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from luhuo.model.cache import BLOCK, KVCache
from luhuo.model.encoder_decoder_config import EncoderDecoderConfig


class CrossCache(KVCache):
    """A `KVCache` for the decoder, and for each of its layers the keys and values (B, H, S, D) of the encoded text.

    The first `model(ids, decoder_ids, cache=cache)` fills the latter; later calls need no `ids`.
    """

    def __init__(
        self,
        config: EncoderDecoderConfig,
        batch: int,
        capacity: int = BLOCK,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(config.decoder, batch, capacity, dtype, device)
        self.cross: list[tuple[Tensor, Tensor]] = []
        self.segments: Tensor | None = None
        """Of the encoded text (B, S); None: no padding."""

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows in this order; a row may appear more than once."""
        super().select(rows)
        index = torch.tensor(list(rows), dtype=torch.long, device=self.keys[0].device)
        self.cross = [(key.index_select(0, index), value.index_select(0, index)) for key, value in self.cross]
        if self.segments is not None:
            self.segments = self.segments.index_select(0, index)
