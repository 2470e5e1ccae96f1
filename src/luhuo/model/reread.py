"""When a new token changes what the cached ones are to each other, the whole rows are read again, once.

That is so where a document grows beyond a context that gives all its tokens other frequencies, and where
the end of a prompt arrives after a part of it is in the cache: its tokens were to see one another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from luhuo.model.records import grows_prompt
from luhuo.model.rope import regime

if TYPE_CHECKING:
    from luhuo.model.cache import KVCache
    from luhuo.model.config import ModelConfig
    from luhuo.model.decoder import Decoder


def is_stale(config: ModelConfig, ids: Tensor, segments: Tensor | None, cache: KVCache) -> bool:
    """Whether appending `ids` (batch, time), those that are no padding, makes the cache wrong."""
    if cache.ids is None or cache.longest == 0:
        return False
    starts, real = cache.starts(), torch.ones_like(ids, dtype=torch.bool) if segments is None else segments != 0
    ends = starts + real.sum(1)
    stale = torch.zeros_like(starts, dtype=torch.bool)
    if config.rope.by_border:
        before, after = (regime(config.rope, lengths, config.max_positions) for lengths in (starts, ends))
        stale |= before != after
    if config.prefix_end is not None:
        old = torch.arange(cache.longest, device=ids.device) < starts[:, None]
        before = ((cache.ids[:, : cache.longest] == config.prefix_end) & old).any(1)
        stale |= ((ids == config.prefix_end) & real).any(1) & ~before
    if config.record is not None:
        stale |= grows_prompt(ids, real, cache, config.record)
    return bool((stale & (starts > 0)).any())


def reread(model: Decoder, ids: Tensor, segments: Tensor | None, cache: KVCache) -> Tensor:
    """Hidden states of the new `ids` (batch, time, hidden), after filling the whole cache anew."""
    time, starts = ids.shape[1], cache.starts()
    cache.reserve(cache.longest + time)
    cache.remember(ids)
    assert cache.ids is not None
    whole = cache.ids[:, : cache.longest + time].clone()
    ends = starts + (time if segments is None else (segments != 0).sum(1))
    real = torch.arange(whole.shape[1], device=ids.device) < ends[:, None]
    cache.truncate([0] * cache.batch)
    hidden = model.hidden(whole, segments=real.int(), cache=cache)
    new = starts[:, None] + torch.arange(time, device=ids.device)
    return hidden.gather(1, new[..., None].expand(-1, -1, hidden.shape[-1]))
