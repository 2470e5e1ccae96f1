"""The key-value cache: static slots, one length per row, grown in blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.model.config import ModelConfig
from luhuo.model.stack_config import StackConfig

BLOCK = 128


class KVCache:
    """Keys and values of past tokens. Row b holds `lengths[b]` tokens, in slots 0 … lengths[b] - 1.

    `model(ids, cache=cache)` appends `ids` (batch, time) to every row. With `segments` (batch, time), 1 for a token
    and 0 for padding on the right, a row is extended by its real tokens only: ragged prompts are one call.
    """

    def __init__(
        self,
        config: ModelConfig | StackConfig,
        batch: int,
        capacity: int = BLOCK,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        slots = -(-capacity // BLOCK) * BLOCK
        shapes = [((batch, h, slots, w), (batch, vh, slots, vw)) for (h, w), (vh, vw) in config.layer_widths]
        self.keys = [torch.zeros(keys, dtype=dtype, device=device) for keys, _ in shapes]
        self.values = [torch.zeros(values, dtype=dtype, device=device) for _, values in shapes]
        self.ids = torch.zeros(batch, slots, dtype=torch.long, device=device) if config.reads_back else None
        """The tokens themselves, where the model may have to read them again."""
        self.lengths: list[int] = [0] * batch

    @property
    def batch(self) -> int:
        """Number of rows."""
        return len(self.lengths)

    @property
    def capacity(self) -> int:
        """Slots per row at present."""
        return self.keys[0].shape[2]

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(self.lengths, default=0)

    @property
    def even(self) -> bool:
        """Whether all rows hold equally many tokens."""
        return min(self.lengths, default=0) == self.longest

    def starts(self) -> Tensor:
        """The lengths as a tensor (batch,) int64 on the cache's device."""
        return torch.tensor(self.lengths, device=self.keys[0].device)

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` tokens a row, in whole blocks and at least half as much again as there was."""
        have = self.capacity
        if capacity <= have:
            return
        slots = -(-max(capacity, have + have // 2) // BLOCK) * BLOCK
        for tensors in (self.keys, self.values):
            for layer, old in enumerate(tensors):
                tensors[layer] = old.new_zeros(old.shape[0], old.shape[1], slots, old.shape[3])
                tensors[layer][:, :, :have] = old
        if self.ids is not None:
            self.ids = F.pad(self.ids, (0, slots - have))

    def remember(self, ids: Tensor) -> None:
        """Keep the tokens (batch, time) behind each row's end, where the model may have to read them again."""
        if self.ids is not None:
            rows = torch.arange(self.batch, device=ids.device)[:, None]
            self.ids[rows, self.starts()[:, None] + torch.arange(ids.shape[1], device=ids.device)] = ids

    def put(self, rows: Sequence[int], other: KVCache) -> None:
        """Replace these rows by those of another cache of the same model."""
        self.reserve(other.longest)
        target, end = torch.tensor(list(rows), device=self.keys[0].device), other.longest
        for ours, theirs in ((self.keys, other.keys), (self.values, other.values)):
            for mine, new in zip(ours, theirs, strict=True):
                mine[target, :, :end] = new[:, :, :end]
        if self.ids is not None and other.ids is not None:
            self.ids[target, :end] = other.ids[:, :end]
        for row, length in zip(rows, other.lengths, strict=True):
            self.lengths[row] = length

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write (batch, heads, time, features) behind each row's end; return what the new tokens may look at.

        Lengths move once per forward pass, in `advance`, after the last layer.
        """
        time = key.shape[2]
        keys, values = self.keys[layer], self.values[layer]
        if self.even:
            start = self.longest
            keys[:, :, start : start + time] = key
            values[:, :, start : start + time] = value
        else:
            rows = torch.arange(self.batch, device=keys.device)[:, None]
            slots = self.starts()[:, None] + torch.arange(time, device=keys.device)
            keys[rows, :, slots] = key.transpose(1, 2)
            values[rows, :, slots] = value.transpose(1, 2)
        if self.longest == 0 and time > 1:
            return key, value
        end = self.longest + time
        return keys[:, :, :end], values[:, :, :end]

    def advance(self, counts: int | Sequence[int]) -> None:
        """Lengthen every row by `counts` tokens (one number, or one a row)."""
        counts = [counts] * self.batch if isinstance(counts, int) else counts
        self.lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]

    def truncate(self, lengths: Sequence[int]) -> None:
        """Forget each row's tokens from `lengths[row]` on."""
        self.lengths = [min(old, new) for old, new in zip(self.lengths, lengths, strict=True)]

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows in this order; a row may appear more than once."""
        index = torch.tensor(list(rows), dtype=torch.long, device=self.keys[0].device)
        self.keys = [keys.index_select(0, index) for keys in self.keys]
        self.values = [values.index_select(0, index) for values in self.values]
        self.ids = None if self.ids is None else self.ids.index_select(0, index)
        self.lengths = [self.lengths[row] for row in rows]
