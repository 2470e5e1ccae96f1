"""Attention of packed rows on a GPU: blocks of 128 x 128 scores that lie in no document are never computed.

PyTorch's flex attention (Dong et al. 2024) does it, given for each block of queries the blocks of keys that it sees.
These lists are made here from the first slot that each query sees, without a mask of time x time numbers, once a batch
for all layers of one window. Flex attention has no gradient on a CPU, and is slow where it is not compiled: on a CPU
`attention` and `fused_attention` compute in blocks of their own.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

BLOCK = 128
"""Queries and keys of a block: what the kernels are made for."""


def usable(device: torch.device) -> bool:
    """Whether flex attention's kernels run on this device."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


def block_mask(first: Tensor) -> BlockMask:
    """The mask of queries that see all slots from `first` (B, T) int32 to their own, and no other."""
    batch, time = first.shape
    count = -(-time // BLOCK)
    last = first[:, -1:].expand(batch, count * BLOCK - time)
    rows = torch.cat([first, last], 1).view(batch, count, BLOCK)
    lowest, all_from = rows.amin(-1) // BLOCK, -(-rows.amax(-1) // BLOCK)  # (B, blocks), in blocks of keys
    block = torch.arange(count, device=first.device)
    seen = (block <= block[:, None]) & (block >= lowest[..., None])  # (B, blocks of queries, blocks of keys)
    whole = (block < block[:, None]) & (block >= all_from[..., None])

    def visible(row: Tensor, _: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (key >= first[row, query])

    return BlockMask.from_kv_blocks(
        *_listed(seen & ~whole), *_listed(whole), BLOCK_SIZE=BLOCK, mask_mod=visible, seq_lengths=(time, time)
    )


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of keys each block of queries has (B, 1, n) int32, and which (B, 1, n, n), those first."""
    order = blocks.int().argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32)[:, None], order.int()[:, None]


def attend_in_blocks(
    query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, scale: float, softcap: float = 0.0
) -> Tensor:
    """Attention of query (B, H, T, D) over key (B, K, T, D) and value (B, K, T, E), K a divisor of H: (B, H, T, E)."""

    def squashed(score: Tensor, *_: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    inside = torch.compiler.is_compiling() or query.device.type == "cpu"
    attention = flex_attention if inside else _compiled()
    found = attention(
        query,
        key,
        value,
        score_mod=squashed if softcap else None,
        block_mask=mask,
        scale=scale,
        enable_gqa=query.shape[1] > key.shape[1],
    )
    assert isinstance(found, Tensor)
    return found


@functools.cache
def _compiled() -> Callable[..., object]:
    """For blocks that are computed again outside of a compiled one."""
    return torch.compile(flex_attention, dynamic=False)
