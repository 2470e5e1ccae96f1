"""Who sees whom: positions within documents, and additive masks for documents, windows, caches and ALiBi.

An additive mask (B or 1, 1 or H, T, S) holds 0 where a query may look, minus infinity where not, and ALiBi's
distances where a model has them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def document_positions(segments: Tensor) -> Tensor:
    """Positions (batch, time) that restart at 0 where the segment number changes."""
    index = torch.arange(segments.shape[1], device=segments.device)
    starts = torch.zeros_like(segments, dtype=torch.long)
    starts[:, 1:] = torch.where(segments[:, 1:] != segments[:, :-1], index[1:], 0)
    return index - starts.cummax(1).values


def causal_mask(
    queries: Tensor,
    slots: int,
    dtype: torch.dtype,
    *,
    segments: Tensor | None = None,
    window: int = 0,
    slopes: Sequence[float] = (),
) -> Tensor:
    """Mask for queries in slots (B or 1, T) that may look at slots 0 … own, S = `slots` in all.

    With `segments` (batch, S) only at the same document (padding is one of its own, so that no row is without a
    visible key); with a `window` only at the last so many slots; with `slopes` distances are subtracted (ALiBi,
    Press et al. 2022).
    """
    keys = torch.arange(slots, device=queries.device)
    distance = queries[..., None] - keys  # (B or 1, T, S)
    hidden = distance < 0
    if window:
        hidden = hidden | (distance >= window)
    if segments is not None:
        hidden = hidden | (segments.gather(1, queries.expand(len(segments), -1))[..., None] != segments[:, None])
    mask = torch.zeros(hidden.shape, dtype=dtype, device=queries.device)
    if not slopes:
        return mask.masked_fill_(hidden, -torch.inf)[:, None]
    steep = torch.tensor(slopes, dtype=dtype, device=queries.device)[:, None, None]
    return (-steep * distance[:, None].to(dtype)).masked_fill_(hidden[:, None], -torch.inf)


def alibi_slopes(heads: int) -> tuple[float, ...]:
    """Slopes of ALiBi (Press et al. 2022): a geometric series; between powers of two, every other of the next."""
    lower = 1 << (heads.bit_length() - 1)
    series = [2 ** (-8 * (i + 1) / lower) for i in range(lower)]
    between = [2 ** (-4 * (i + 1) / lower) for i in range(0, 2 * (heads - lower), 2)]
    return tuple(series + between)
