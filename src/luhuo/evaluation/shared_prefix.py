"""A cache whose rows stand behind one text that all of them share: it is computed and kept once.

Few-shot examples are the same for all items of a subject. Their keys and values are put in front of those of each
row, layer by layer, when attention asks for them, so that no row holds a copy.
"""

from __future__ import annotations

import torch
from torch import Tensor

from luhuo.model.cache import KVCache
from luhuo.model.config import ModelConfig
from luhuo.model.stack_config import StackConfig


class SharedPrefixCache(KVCache):
    """Rows behind `front`, a cache of one row. Lengths, and slots from here on, are those of the rows' own tokens."""

    def __init__(self, config: ModelConfig | StackConfig, front: KVCache, batch: int, capacity: int) -> None:
        super().__init__(config, batch, capacity, front.dtype, front.device)
        self.ahead = front.longest
        self.front = [
            (key[:, :, : self.ahead], value[:, :, : self.ahead])
            for key, value in zip(front.keys, front.values, strict=True)
        ]

    @property
    def own(self) -> int:
        """Tokens of the longest row behind the prefix."""
        return max(self.lengths, default=0)

    @property
    def longest(self) -> int:
        """Tokens of the longest row, the prefix included."""
        return self.ahead + self.own

    def starts(self) -> Tensor:
        """The lengths (batch,), the prefix included."""
        return torch.tensor([self.ahead + length for length in self.lengths], device=self.device)

    def reserve(self, capacity: int) -> None:
        super().reserve(capacity - self.ahead)

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write (batch, heads, time, features) behind each row's end; return the prefix and all that was written."""
        end = self.own + key.shape[2]
        found = []
        for new, kept, front in zip((key, value), (self.keys, self.values), self.front[layer], strict=True):
            self._put(kept[layer], new)
            found.append(torch.cat([front.expand(len(new), -1, -1, -1), kept[layer][:, :, :end]], 2))
        return found[0], found[1]

    def _put(self, kept: Tensor, new: Tensor) -> None:
        time = new.shape[2]
        if self.even:
            kept[:, :, self.own : self.own + time] = new
            return
        rows = torch.arange(self.batch, device=kept.device)[:, None]
        slots = torch.tensor(self.lengths, device=kept.device)[:, None] + torch.arange(time, device=kept.device)
        kept[rows, :, slots] = new.transpose(1, 2)
