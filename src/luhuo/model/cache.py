"""The key-value cache: static slots, one length per row, grown in blocks; and a view of some of its rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from luhuo.model.cache_formats import INT4, KEYS, VALUES, kept_bytes, kept_in, quantise, widened
from luhuo.model.config import ModelConfig
from luhuo.model.stack_config import StackConfig

BLOCK = 128


class KVCache:
    """Keys and values of past tokens. Row b holds `lengths[b]` tokens, in slots 0 … lengths[b] - 1.

    `model(ids, cache=cache)` appends `ids` (batch, time) to every row. With `segments` (batch, time), 1 for a token
    and 0 for padding on the right, a row is extended by its real tokens only: ragged prompts are one call.

    `stored` is the number format it is kept in, `dtype` the one attention gets. With int8 each token has a scale per
    head: the largest magnitude of its features over 127. With int4 (`INT4`; two numbers share a byte) it has a
    scale and a low for each group of features (`cache_formats`).
    """

    def __init__(
        self,
        config: ModelConfig | StackConfig,
        batch: int,
        capacity: int = BLOCK,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        *,
        stored: torch.dtype | None = None,
    ) -> None:
        slots = -(-capacity // BLOCK) * BLOCK
        self.dtype, self.stored = dtype, stored or dtype
        shapes = [((batch, h, slots, w), (batch, vh, slots, vw)) for (h, w), (vh, vw) in config.layer_widths]
        both = [
            [self._empty(shape, most, device) for shape in kind]
            for most, kind in zip((KEYS, VALUES), zip(*shapes, strict=True), strict=True)
        ]
        self.keys, self.values = ([numbers for numbers, _ in kind] for kind in both)
        few = self.stored in (torch.int8, INT4)
        self.key_scales, self.value_scales = ([scales for _, scales in kind if few] for kind in both)
        """(batch, heads, slots, …) for each layer, as `cache_formats` has them; empty unless stored in few bits."""
        self.ids = torch.zeros(batch, slots, dtype=torch.long, device=device) if config.reads_back else None
        """The tokens themselves, where the model may have to read them again."""
        self.lengths: list[int] = [0] * batch

    def _empty(self, shape: tuple[int, ...], most: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Numbers and scales for vectors (batch, heads, slots, features)."""
        numbers, width, scales, count = kept_in(self.stored, shape[-1], most)
        return (
            torch.zeros(*shape[:-1], width, dtype=numbers, device=device),
            torch.zeros(*shape[:-1], count, dtype=scales, device=device),
        )

    @property
    def batch(self) -> int:
        """Number of rows."""
        return len(self.lengths)

    @property
    def capacity(self) -> int:
        """Slots per row at present."""
        return self.keys[0].shape[2]

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.keys[0].device

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(self.lengths, default=0)

    @property
    def gives_back(self) -> bool:
        """Whether `append` gives back keys and values as they were computed, equally many of every row."""
        return self.even and self.stored == self.dtype

    @property
    def even(self) -> bool:
        """Whether all rows hold equally many tokens."""
        return len(set(self.lengths)) < 2

    @property
    def lists(self) -> tuple[list[Tensor], ...]:
        """All that is kept by slot, by layer: tensors (batch, heads, slots, features)."""
        return self.keys, self.values, self.key_scales, self.value_scales

    def starts(self) -> Tensor:
        """The lengths as a tensor (batch,) int64 on the cache's device."""
        return torch.tensor(self.lengths, device=self.device)

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` tokens a row, in whole blocks and at least half as much again as there was."""
        have = self.capacity
        if capacity > have:
            self.resize(range(self.batch), -(-max(capacity, have + have // 2) // BLOCK) * BLOCK)

    def resize(self, rows: Sequence[int | None], capacity: int) -> None:
        """Keep these rows in this order (None: an empty one), with exactly `capacity` slots, layer by layer."""
        keep = [(new, old) for new, old in enumerate(rows) if old is not None]
        new, old = (torch.tensor([pair[i] for pair in keep], dtype=torch.long, device=self.device) for i in (0, 1))
        end = min(capacity, max((self.lengths[row] for _, row in keep), default=0))
        whole = [pair[1] for pair in keep] == list(range(len(rows)))  # then rows need no index
        for tensors in self.lists:
            for layer, have in enumerate(tensors):
                grown = have.new_zeros(len(rows), have.shape[1], capacity, have.shape[3])
                if whole:
                    grown[:, :, :end] = have[: len(rows), :, :end]
                else:
                    grown[new, :, :end] = have[old, :, :end]
                tensors[layer] = grown
        if self.ids is not None:
            ids = self.ids.new_zeros(len(rows), capacity)
            ids[new, :end] = self.ids[old, :end]
            self.ids = ids
        self.lengths = [0 if row is None else self.lengths[row] for row in rows]

    def remember(self, ids: Tensor) -> None:
        """Keep the tokens (batch, time) behind each row's end, where the model may have to read them again."""
        if self.ids is not None:
            rows = torch.arange(self.batch, device=ids.device)[:, None]
            self.ids[rows, self.starts()[:, None] + torch.arange(ids.shape[1], device=ids.device)] = ids

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write (batch, heads, time, features) behind each row's end; return what the new tokens may look at.

        Lengths move once per forward pass, in `advance`, after the last layer.
        """
        first = self.longest == 0 and self.gives_back and key.shape[2] > 1
        end = self.longest + key.shape[2]
        found = []
        ours, theirs = (key, self.keys, self.key_scales, KEYS), (value, self.values, self.value_scales, VALUES)
        for new, kept, scales, most in (ours, theirs):
            if scales:
                new, scale = quantise(new, self.stored, most)
                self._write(scales[layer], scale)
                self._write(kept[layer], new)
                both = self._read(kept[layer], end), self._read(scales[layer], end)
                found.append(widened(*both, self.stored, self.dtype))
            else:
                self._write(kept[layer], new)
                found.append(new if first else self._read(kept[layer], end).to(self.dtype))
        return found[0], found[1]

    def _write(self, kept: Tensor, new: Tensor) -> None:
        """Put `new` (batch, heads, time, features) behind each row's end."""
        time, start = new.shape[2], self.longest
        if self.even:
            kept[:, :, start : start + time] = new
        else:
            rows = torch.arange(self.batch, device=kept.device)[:, None]
            slots = self.starts()[:, None] + torch.arange(time, device=kept.device)
            kept[rows, :, slots] = new.transpose(1, 2).to(kept.dtype)

    def _read(self, kept: Tensor, end: int) -> Tensor:
        """The first `end` slots of all rows."""
        return kept[:, :, :end]

    def advance(self, counts: int | Sequence[int]) -> None:
        """Lengthen every row by `counts` tokens (one number, or one a row)."""
        counts = [counts] * self.batch if isinstance(counts, int) else counts
        self.lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]

    def truncate(self, lengths: Sequence[int]) -> None:
        """Forget each row's tokens from `lengths[row]` on."""
        self.lengths = [min(old, new) for old, new in zip(self.lengths, lengths, strict=True)]

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows in this order; a row may appear more than once."""
        index = torch.tensor(list(rows), dtype=torch.long, device=self.device)
        for tensors in self.lists:
            for layer, have in enumerate(tensors):
                tensors[layer] = have.index_select(0, index)
        self.ids = None if self.ids is None else self.ids.index_select(0, index)
        self.lengths = [self.lengths[row] for row in rows]

    def of_rows(self, rows: Sequence[int]) -> KVCache:
        """A cache that reads and writes only these rows of this one."""
        return self if list(rows) == list(range(self.batch)) else CacheRows(self, rows)


class Recorder(KVCache):
    """Takes the place of a cache for one pass, and hands out what was put into it: keys and values by layer."""

    def __init__(self) -> None:
        self.kept: list[tuple[Tensor, Tensor]] = []

    @property
    def gives_back(self) -> bool:
        """Not to be asked of what has no slots."""
        return False

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        self.kept.append((key, value))
        return key, value


class CacheRows(KVCache):
    """Some rows of another cache. What is written goes there; what is read is gathered from there."""

    def __init__(self, whole: KVCache, rows: Sequence[int]) -> None:
        self.whole, self.rows = whole, list(rows)
        self.index = torch.tensor(self.rows, dtype=torch.long, device=whole.device)
        self.dtype, self.stored = whole.dtype, whole.stored
        self._look()

    def _look(self) -> None:
        self.keys, self.values = self.whole.keys, self.whole.values
        self.key_scales, self.value_scales = self.whole.key_scales, self.whole.value_scales
        self.ids = None if self.whole.ids is None else self.whole.ids.index_select(0, self.index)
        self.lengths = [self.whole.lengths[row] for row in self.rows]

    def reserve(self, capacity: int) -> None:
        self.whole.reserve(capacity)
        self._look()

    def remember(self, ids: Tensor) -> None:
        if self.whole.ids is not None:
            slots = self.starts()[:, None] + torch.arange(ids.shape[1], device=ids.device)
            self.whole.ids[self.index[:, None], slots] = ids
            self._look()

    def _write(self, kept: Tensor, new: Tensor) -> None:
        time, start = new.shape[2], self.longest
        if self.even:
            kept[self.index, :, start : start + time] = new.to(kept.dtype)
        else:
            slots = self.starts()[:, None] + torch.arange(time, device=kept.device)
            kept[self.index[:, None], :, slots] = new.transpose(1, 2).to(kept.dtype)

    def _read(self, kept: Tensor, end: int) -> Tensor:
        return kept[:, :, :end].index_select(0, self.index)

    def advance(self, counts: int | Sequence[int]) -> None:
        super().advance(counts)
        self._tell()

    def truncate(self, lengths: Sequence[int]) -> None:
        super().truncate(lengths)
        self._tell()

    def _tell(self) -> None:
        for row, length in zip(self.rows, self.lengths, strict=True):
            self.whole.lengths[row] = length


def bytes_per_token(config: ModelConfig | StackConfig, stored: torch.dtype) -> int:
    """What a cache in this number format takes for one token."""
    return sum(
        heads * kept_bytes(stored, size, most)
        for widths in config.layer_widths
        for (heads, size), most in zip(widths, (KEYS, VALUES), strict=True)
    )
