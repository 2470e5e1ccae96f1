"""What pruning takes in memory, told before it begins."""

from __future__ import annotations

from luhuo.compress.experts import experts_at_once
from luhuo.compress.mixed_bits import experts_of
from luhuo.compress.sizes import check_memory
from luhuo.compress.walk import Walk
from luhuo.model.count import parameters

FACTORED = 4
"""Copies in fp64 of one second moment while it is factored or solved with."""


def needed_bytes(walk: Walk, method: str, *, whole: bool = False) -> int:
    """The largest block in fp32 twice and the states of the calibration text; besides, where weights are chosen by
    their scores, these and their order; where columns make up for others, the block's second moments and the largest
    one as it is solved with; `whole`: all weights in fp32."""
    blocks = [[p for p in block.parameters() if p.ndim == 2] for block in walk.model.blocks]
    largest = max(sum(p.numel() for p in block.parameters()) for block in walk.model.blocks)
    matrix = max(p.numel() for block in blocks for p in block)
    columns = max(p.shape[1] for block in blocks for p in block)
    states = 0 if walk.sequences is None else walk.sequences.numel() * walk.config.hidden_size
    found = 4 * (2 * largest + states)
    if method in ("magnitude", "wanda"):
        found += (4 + 8 + 8) * matrix
    else:
        widths = (walk.model.get_parameter(name).shape[2] for name in experts_of(walk))
        moments = [sum(p.shape[1] ** 2 for p in block) for block in blocks]
        moments += [experts_at_once(columns) * columns**2 for columns in widths]
        found += 4 * max(moments) + 8 * FACTORED * columns**2
    return found + (4 * sum(parameters(walk.config).values()) if whole else 0)


def check_room(walk: Walk, method: str, *, whole: bool = False) -> None:
    """Raise `LuhuoError` where there is not so much memory."""
    check_memory(needed_bytes(walk, method, whole=whole), what=f"prune {method}")
