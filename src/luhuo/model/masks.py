"""Who sees whom: positions within documents, and additive masks for documents, windows, caches and ALiBi.

An additive mask (B or 1, 1 or H, T, S) holds 0 where a query may look, minus infinity where not, and ALiBi's
distances where a model has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask

from luhuo.model.flex import block_mask

if TYPE_CHECKING:
    from luhuo.model.config import ModelConfig


def takes_trunks(config: ModelConfig) -> bool:
    """Whether several continuations of one text can stand behind it in a row, each seeing it and itself alone: where
    distances are those of rotary positions, whatever lies between in the row."""
    plain = config.positions == "rope" and config.rope.axes == 1 and not config.rope.by_length
    whole = config.prefix_end is None and config.record is None and not config.query_block
    return plain and whole and not any(config.windows) and not config.linear_layers and not config.alibi_slopes


@dataclass(frozen=True)
class CausalMasks(Mapping[int, Tensor | BlockMask | None]):
    """The mask of each window (0: none), made when a layer asks for it; None where causality alone says it all.

    With `blocks`, masks that are `spans` are made for flex attention.
    """

    queries: Tensor
    """Slots (B or 1, T) of the queries."""
    slots: int
    dtype: torch.dtype
    segments: Tensor | None = None
    slopes: Sequence[float] = ()
    prefix: Tensor | None = None
    plain: bool = False
    """Whether causality and windows are all there is, apart from prefix and slopes."""
    windows: Sequence[int] = ()
    blocks: bool = False
    trunks: Tensor | None = None
    """The segment (B, S) that a token sees beside its own, which begins after it; 0: none. Without windows."""
    made: dict[int, Tensor | BlockMask | None] = field(default_factory=dict)
    firsts: dict[int, Tensor] = field(default_factory=dict)

    def __getitem__(self, window: int) -> Tensor | BlockMask | None:
        if window not in self.made:
            alone = self.plain and self.prefix is None and not self.slopes and (window == 0 or self.slots <= window)
            self.made[window] = None if alone else self._mask(window)
        return self.made[window]

    def __iter__(self) -> Iterator[int]:
        return iter({0, *self.windows})

    def __len__(self) -> int:
        return len({0, *self.windows})

    @property
    def spans(self) -> bool:
        """Whether each query sees all slots from `first_seen` to its own but its `gaps`; queries are all slots."""
        return self.prefix is None and not self.slopes and self.queries.shape[1] == self.slots

    def follow(self, before: int, window: int) -> bool:
        """Whether each query sees all slots up to its own, and the queries are those from slot `before` on.

        Of a cache with rows of that length.
        """
        everything = self.segments is None and self.prefix is None and not self.slopes
        near = window == 0 or self.slots <= window
        return everything and near and before + self.queries.shape[1] == self.slots

    def first_seen(self, window: int, batch: int) -> Tensor | None:
        """The first slot that each query looks at (batch, T) int32; None: slot 0. For masks that are `spans`."""
        if self.segments is None and (window == 0 or self.slots <= window):
            return None
        if window not in self.firsts:
            slots, segments = self.queries, self.segments
            first = torch.zeros_like(slots) if segments is None else slots - document_positions(segments)
            first = torch.maximum(first, slots - window + 1) if window else first
            if self.trunks is not None:
                first = torch.where(self.trunks > 0, self._trunk_ends[0], first)
            self.firsts[window] = first.int().expand(batch, -1).contiguous()
        return self.firsts[window]

    @cached_property
    def gaps(self) -> Tensor | None:
        """Slots between a branch and its trunk, from … to (batch, T, 2) int32; None where there are no trunks."""
        if self.trunks is None or self.segments is None:
            return None
        own = self.queries - document_positions(self.segments)
        ends = torch.stack([self._trunk_ends[1], own], -1)
        return torch.where(self.trunks[..., None] > 0, ends, 0).int().contiguous()

    @cached_property
    def _trunk_ends(self) -> tuple[Tensor, Tensor]:
        """First slot of each token's trunk and the one behind its last, (B, T) each."""
        assert self.trunks is not None and self.segments is not None
        there = of_trunk(self.segments, self.trunks)
        first = there.int().argmax(-1)
        return first, first + there.sum(-1)

    def _mask(self, window: int) -> Tensor | BlockMask:
        if self.blocks and self.spans and self.trunks is None:
            rows = self.queries if self.segments is None else self.segments
            first = self.first_seen(window, len(rows))
            return block_mask(torch.zeros_like(rows, dtype=torch.int32) if first is None else first)
        return causal_mask(
            self.queries,
            self.slots,
            self.dtype,
            segments=self.segments,
            window=window,
            slopes=self.slopes,
            prefix=self.prefix,
            trunks=self.trunks,
        )


def put_ahead(
    ahead: tuple[Tensor, Tensor], key: Tensor, value: Tensor, mask: Tensor | BlockMask | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Keys, values and mask with (1, K, P, D) that everybody sees in front of (B, K, S, D).

    Without a mask all slots are seen: the caller has one made wherever they are not.
    """
    assert not isinstance(mask, BlockMask), "blocks know of no virtual tokens"
    first, second = (
        torch.cat([part.to(own.dtype).expand(len(own), -1, -1, -1), own], 2)
        for part, own in zip(ahead, (key, value), strict=True)
    )
    count = ahead[0].shape[2]
    return first, second, None if mask is None else F.pad(mask, (count, 0))


def document_positions(segments: Tensor) -> Tensor:
    """Positions (batch, time) that restart at 0 where the segment number changes."""
    index = torch.arange(segments.shape[1], device=segments.device)
    starts = torch.zeros_like(segments, dtype=torch.long)
    starts[:, 1:] = torch.where(segments[:, 1:] != segments[:, :-1], index[1:], 0)
    return index - starts.cummax(1).values


def branch_positions(config: ModelConfig, segments: Tensor, trunks: Tensor) -> Tensor:
    """Positions (batch, time) that restart with each segment, or go on where its trunk ends if it has one."""
    assert takes_trunks(config), "this model sees no text beside its own"
    return document_positions(segments) + of_trunk(segments, trunks).sum(-1)


def of_trunk(segments: Tensor, trunks: Tensor) -> Tensor:
    """Whether the second token belongs to the trunk of the first: (batch, time, time) bool."""
    return (trunks[..., None] == segments[:, None]) & (trunks > 0)[..., None]


def document_numbers(segments: Tensor) -> Tensor:
    """The number of each token's document in its row (batch, time), from 0; it grows where the segment changes."""
    changes = torch.zeros_like(segments, dtype=torch.long)
    changes[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return changes.cumsum(1)


def document_lengths(positions: Tensor, segments: Tensor | None) -> Tensor:
    """Largest position + 1 of each token's document: (batch, time), or (batch, 1) where a row is one document."""
    if segments is None:
        return positions.amax(1, keepdim=True) + 1
    number = document_numbers(segments)
    positions = positions.expand(segments.shape)
    return torch.zeros_like(positions).scatter_reduce(1, number, positions + 1, "amax").gather(1, number)


def causal_mask(
    queries: Tensor,
    slots: int,
    dtype: torch.dtype,
    *,
    segments: Tensor | None = None,
    window: int = 0,
    slopes: Sequence[float] = (),
    prefix: Tensor | None = None,
    trunks: Tensor | None = None,
) -> Tensor:
    """Mask for queries in slots (B or 1, T) that may look at slots 0 … own, S = `slots` in all.

    With `segments` (batch, S) only at the same document (padding is one of its own, so that no row is without a
    visible key); with a `window` only at the last so many slots; with `slopes` distances are subtracted (ALiBi,
    Press et al. 2022). What is marked in `prefix` (batch, S) is visible to later and earlier queries alike. A query
    also sees the segment that `trunks` (batch, S) names for it, if it names one.
    """
    keys = torch.arange(slots, device=queries.device)
    distance = queries[..., None] - keys  # (B or 1, T, S)
    hidden = distance < 0 if prefix is None else (distance < 0) & ~prefix[:, None]
    if window:
        hidden = hidden | (distance >= window)
    if segments is not None:
        asking = queries.expand(len(segments), -1)
        apart = segments.gather(1, asking)[..., None] != segments[:, None]
        if trunks is not None:
            trunk = trunks.gather(1, asking)[..., None]
            apart = apart & ((trunk == 0) | (trunk != segments[:, None]))
        hidden = hidden | apart
    mask = torch.zeros(hidden.shape, dtype=dtype, device=queries.device)
    if not slopes:
        return mask.masked_fill_(hidden, -torch.inf)[:, None]
    steep = torch.tensor(slopes, dtype=dtype, device=queries.device)[:, None, None]
    return (-steep * distance[:, None].to(dtype)).masked_fill(hidden[:, None], -torch.inf)


def alibi_slopes(heads: int) -> tuple[float, ...]:
    """Slopes of ALiBi (Press et al. 2022): a geometric series; between powers of two, every other of the next."""
    lower = 1 << (heads.bit_length() - 1)
    series = [2 ** (-8 * (i + 1) / lower) for i in range(lower)]
    between = [2 ** (-4 * (i + 1) / lower) for i in range(0, 2 * (heads - lower), 2)]
    return tuple(series + between)


def bidirectional_mask(
    time: int, dtype: torch.dtype, segments: Tensor | None, *, window: int = 0, device: torch.device | None = None
) -> Tensor | None:
    """Mask (B or 1, 1, T, T) of an encoder, None if all may look at all.

    With `segments` (B, T) tokens look at their own document only; with a `window` at so many on each side.
    """
    hidden = None
    if window and window < time - 1:
        index = torch.arange(time, device=device)
        hidden = ((index[:, None] - index).abs() > window)[None]
    if segments is not None:
        apart = segments[:, :, None] != segments[:, None]
        hidden = apart if hidden is None else hidden | apart
    if hidden is None:
        return None
    return torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, -torch.inf)[:, None]


def cross_mask(queries: Tensor | None, keys: Tensor | None, time: int, dtype: torch.dtype) -> Tensor | None:
    """Mask (B, 1, T, S) of a decoder over an encoder's states: document n looks at document n.

    `queries` (B, T) and `keys` (B, S) are segments, None: one document. The least number instead of minus infinity:
    padding may have nothing to look at.
    """
    if queries is None and keys is None:
        return None
    if queries is None:
        assert keys is not None
        queries = keys.new_ones(len(keys), time)
    elif keys is None:
        keys = queries.new_ones(len(queries), 1)
    apart = queries[:, :, None] != keys[:, None]
    return torch.zeros(apart.shape, dtype=dtype, device=apart.device).masked_fill_(apart, torch.finfo(dtype).min)[
        :, None
    ]
