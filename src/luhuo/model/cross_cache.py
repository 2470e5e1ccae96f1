"""The cache of an encoder-decoder: the decoder's own keys and values, and those of the encoder's states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.model.cache import BLOCK, CacheRows, KVCache
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

    @property
    def read(self) -> int:
        """Slots of the encoded texts."""
        return self.cross[0][0].shape[2] if self.cross else 0

    def resize(self, rows: Sequence[int | None], capacity: int) -> None:
        """Keep these rows in this order (None: an empty one), with exactly `capacity` slots for the decoder."""
        super().resize(rows, capacity)
        keep = [(new, old) for new, old in enumerate(rows) if old is not None]
        new, old = (torch.tensor([pair[i] for pair in keep], dtype=torch.long, device=self.device) for i in (0, 1))
        self.cross = [
            (_moved(key, new, old, len(rows)), _moved(value, new, old, len(rows))) for key, value in self.cross
        ]
        if self.segments is not None:
            self.segments = _moved(self.segments, new, old, len(rows))

    def hear(self, rows: Sequence[int], other: CrossCache) -> None:
        """Take over the encoded texts of another cache, row by row, into `rows`."""
        slots, index = max(self.read, other.read), torch.tensor(list(rows), device=self.device)
        if not self.cross:
            zeros = [[part.new_zeros(self.batch, *part.shape[1:]) for part in pair] for pair in other.cross]
            self.cross = [(key, value) for key, value in zeros]
            self.segments = torch.zeros(self.batch, other.read, dtype=torch.long, device=self.device)
        assert self.segments is not None
        pad = slots - self.read
        self.segments = F.pad(self.segments, (0, pad))
        self.segments[index] = 0
        self.segments[index, : other.read] = 1 if other.segments is None else other.segments.long()
        for layer, pair in enumerate(zip(self.cross[:], other.cross, strict=True)):
            grown = [F.pad(ours, (0, 0, 0, pad)) for ours in pair[0]]
            for ours, theirs in zip(grown, pair[1], strict=True):
                ours[index, :, : other.read] = theirs
            self.cross[layer] = grown[0], grown[1]

    def of_rows(self, rows: Sequence[int]) -> KVCache:
        """A cache that reads and writes only these rows of this one."""
        return self if list(rows) == list(range(self.batch)) else _CrossRows(self, rows)


class _CrossRows(CacheRows):
    """Some rows of another cache, with the texts they look at."""

    def __init__(self, whole: CrossCache, rows: Sequence[int]) -> None:
        super().__init__(whole, rows)
        self.cross = [(key[self.index], value[self.index]) for key, value in whole.cross]
        self.segments = None if whole.segments is None else whole.segments[self.index]


def _moved(old: Tensor, new_rows: Tensor, old_rows: Tensor, count: int) -> Tensor:
    """Rows of a tensor at other places of one with `count` rows; the others are zero."""
    moved = old.new_zeros(count, *old.shape[1:])
    moved[new_rows] = old[old_rows]
    return moved
