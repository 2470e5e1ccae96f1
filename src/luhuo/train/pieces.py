"""Tensors of which this process may hold only a piece (DTensor), and work that the processes share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor


@dataclass(frozen=True)
class Piece:
    """What this process holds of a tensor."""

    local: Tensor
    shape: tuple[int, ...]
    """Of the whole tensor."""
    start: tuple[int, ...]
    """Where the piece begins, in each dimension."""

    @property
    def place(self) -> tuple[slice, ...]:
        """The index of the piece in the whole tensor."""
        return tuple(slice(a, a + n) for a, n in zip(self.start, self.local.shape, strict=True))


def held(tensor: Tensor) -> Piece:
    """The piece of a tensor that this process holds: all of a plain one."""
    if not isinstance(tensor, DTensor):
        return Piece(tensor.detach(), tuple(tensor.shape), (0,) * tensor.dim())
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    _, start = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return Piece(tensor.to_local().detach(), tuple(tensor.shape), tuple(start))


def is_first_copy(tensor: Tensor) -> bool:
    """Whether no process of lower rank holds the same piece of a sharded tensor."""
    if not isinstance(tensor, DTensor):
        return True
    coordinate = tensor.device_mesh.get_coordinate()
    assert coordinate is not None, "this process is not part of the tensor's mesh"
    return not any(at and kind.is_replicate() for at, kind in zip(coordinate, tensor.placements, strict=True))


def copies(tensor: DTensor) -> int:
    """How many processes hold the same piece."""
    mesh = tensor.device_mesh
    count = 1
    for dimension, kind in enumerate(tensor.placements):
        count *= mesh.size(dimension) if kind.is_replicate() else 1
    return count


def local(tensor: Tensor) -> Tensor:
    """The numbers this process holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(mine: Tensor, like: Tensor) -> Tensor:
    """The whole tensor of which `mine` is this process's piece, cut as `like` is. All processes call this together."""
    if not isinstance(like, DTensor):
        return mine
    whole = DTensor.from_local(mine, like.device_mesh, like.placements, shape=like.shape, stride=like.stride())
    return whole.full_tensor()


def piece(whole: Tensor, like: Tensor) -> Tensor:
    """This process's piece of a whole tensor, cut as `like` is."""
    return whole[held(like).place] if isinstance(like, DTensor) else whole


def shared_out(batch: Tensor, work: Callable[[Tensor], Tensor]) -> Tensor:
    """work(batch) over the first dimension, each process doing its share; all processes hold equal batches."""
    count = distributed.get_world_size() if distributed.is_initialized() else 1
    if count == 1 or len(batch) == 1:
        return work(batch)
    share = -(-len(batch) // count)
    mine = batch[distributed.get_rank() * share :][:share]
    done = work(mine) if len(mine) else None
    dtype = torch.bfloat16 if done is None else done.dtype
    padded = torch.zeros(share, *batch.shape[1:], dtype=dtype, device=batch.device)
    if done is not None:
        padded[: len(done)] = done
    everything = torch.empty(count * share, *batch.shape[1:], dtype=dtype, device=batch.device)
    distributed.all_gather_into_tensor(everything, padded)
    return everything[: len(batch)]
