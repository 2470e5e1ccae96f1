"""Several data sets in one epoch, each as often as its weight says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed


@dataclass(frozen=True)
class Share:
    """So many conversations, and how often each is seen in an epoch: 2 is twice, 0.5 every second epoch."""

    count: int
    weight: float = 1.0


def chosen(shares: Sequence[Share], seed: int, epoch: int) -> np.ndarray:
    """Numbers of the conversations of an epoch, in order; the sets lie one behind the other.

    The part of a set that a fraction asks for goes round the set from epoch to epoch, so that all of it is seen
    equally often in the end. Raises `LuhuoError` for an epoch of nothing.
    """
    pieces, start = [], 0
    for number, share in enumerate(shares):
        items = np.arange(start, start + share.count)
        whole = int(share.weight)
        pieces += [items] * whole
        part = share.weight - whole
        if part and share.count:
            order = np.random.default_rng(derive_seed(seed, "mixing", number)).permutation(items)
            first, last = (round(turn * part * share.count) for turn in (epoch, epoch + 1))
            pieces.append(order[np.arange(first, last) % share.count])
        start += share.count
    found = np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)
    if not len(found):
        raise LuhuoError(
            tr("With these weights an epoch holds no conversation.", "按这些权重，一遍中没有任何对话。"),
            found=", ".join(f"{share.count} × {share.weight:g}" for share in shares),
            where="data",
        )
    return found
