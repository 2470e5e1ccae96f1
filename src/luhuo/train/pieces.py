"""Tensors of which this process holds only a part, and work that the processes share.

A parameter may be divided twice: among the processes of a tensor- or expert-parallel group (`Split`), and what one of
these has, by rows among the processes of FSDP. `Cut` knows both, so that a checkpoint, the optimisers and the finished
model see one whole tensor in the model's own order, whatever the processes hold.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor


@dataclass(frozen=True)
class Split:
    """How `count` processes divide a dimension: of each matrix fused along it, process i has the i-th part."""

    dim: int
    sizes: tuple[int, ...]
    """Of the fused matrices: query, key and value rows, or gate and up."""
    count: int

    def ranges(self, index: int) -> list[tuple[int, int]]:
        """(start, length) in the whole tensor of what process `index` holds, in the order it holds it."""
        starts = itertools.accumulate(self.sizes, initial=0)
        shares = [size // self.count for size in self.sizes]
        return [(start + index * share, share) for start, share in zip(starts, shares, strict=False)]

    def taken(self, whole: Tensor, index: int) -> Tensor:
        """What process `index` holds of a whole tensor."""
        return torch.cat([whole.narrow(self.dim, *found) for found in self.ranges(index)], self.dim)

    def joined(self, shares: list[Tensor]) -> Tensor:
        """The whole tensor of the shares of all processes."""
        blocks = [self._parts(share) for share in shares]
        return torch.cat([blocks[i][k] for k in range(len(self.sizes)) for i in range(self.count)], self.dim)

    def _parts(self, share: Tensor) -> list[Tensor]:
        return list(share.split([size // self.count for size in self.sizes], self.dim))


@dataclass(frozen=True)
class Member:
    """This process's place in a group."""

    index: int
    count: int
    group: distributed.ProcessGroup | None


@dataclass(frozen=True)
class Piece:
    """A box of a tensor that this process holds."""

    local: Tensor
    shape: tuple[int, ...]
    """Of the whole tensor."""
    start: tuple[int, ...]
    """Where the box begins, in each dimension."""

    @property
    def place(self) -> tuple[slice, ...]:
        """The index of the box in the whole tensor."""
        return tuple(slice(a, a + n) for a, n in zip(self.start, self.local.shape, strict=True))


@dataclass(frozen=True)
class Cut:
    """What this process holds of one parameter, and of every tensor that is cut like it."""

    split: Split | None = None
    splitter: Member | None = None
    rows: Member | None = None
    """FSDP: what the split leaves is divided by rows."""
    copies: int = 0
    """Processes that hold the same numbers; 0: all."""
    first: bool = True
    """Whether no process of lower number holds the same."""
    over: tuple[str, ...] = ("dp", "fsdp", "ep")
    """Dimensions of the mesh over which its gradient is still to be summed after the backward pass."""
    share: float = 1.0
    """Factor on that sum: where processes have computed the same gradient, each counts for its part."""

    def boxes(self, mine: Tensor, shape: tuple[int, ...]) -> list[Piece]:
        """The boxes of a whole tensor of this shape that make up `mine`, which this process holds."""
        if self.split is None or self.splitter is None:
            ranges, dim = [(0, shape[0])], 0
        else:
            ranges, dim = self.split.ranges(self.splitter.index), self.split.dim
        height = sum(length for _, length in ranges) if dim == 0 else shape[0]
        first, end = self._rows(height)
        found, before = [], 0
        for start, length in ranges:
            if dim == 0:
                low, high = max(first, before), min(end, before + length)
                if low < high:
                    origin = (start + low - before, *(0,) * (len(shape) - 1))
                    found.append(Piece(mine[low - first : high - first], shape, origin))
            elif first < end:
                origin = (first, *(start if axis == dim else 0 for axis in range(1, len(shape))))
                found.append(Piece(mine.narrow(dim, before, length), shape, origin))
            before += length
        return found

    def gathered(self, mine: Tensor, height: int) -> Tensor:
        """The whole tensor, which has `height` rows, from what each process holds. All call this together."""
        if self.split is not None and self.split.dim == 0:
            height //= self.split.count
        if self.rows is not None:
            size = -(-height // self.rows.count)
            padded = mine.new_zeros(size, *mine.shape[1:])
            padded[: len(mine)] = mine
            mine = torch.cat(_all(padded, self.rows))[:height]
        if self.split is None or self.splitter is None:
            return mine
        return self.split.joined(_all(mine.contiguous(), self.splitter))

    def taken(self, whole: Tensor) -> Tensor:
        """What this process holds of a whole tensor."""
        if self.split is not None and self.splitter is not None:
            whole = self.split.taken(whole, self.splitter.index)
        first, end = self._rows(len(whole)) if whole.dim() else (0, 0)
        return whole if self.rows is None else whole[first:end]

    def _rows(self, height: int) -> tuple[int, int]:
        """The rows FSDP gives this process, of `height` (as `torch.chunk` divides them)."""
        if self.rows is None:
            return 0, height
        size = -(-height // self.rows.count)
        first = min(self.rows.index * size, height)
        return first, min(first + size, height)


def _all(mine: Tensor, member: Member) -> list[Tensor]:
    everything = [torch.empty_like(mine) for _ in range(member.count)]
    distributed.all_gather(everything, mine, group=member.group)
    return everything


WHOLE = Cut()


def note(parameter: Tensor, cut: Cut) -> None:
    """Keep a parameter's cut with it."""
    parameter.cut = cut  # type: ignore[attr-defined]


def cut_of(parameter: Tensor) -> Cut:
    """How a parameter is cut; one that nobody divided is whole."""
    return getattr(parameter, "cut", WHOLE)


def held(tensor: Tensor, cut: Cut) -> list[Piece]:
    """The boxes of a tensor that this process holds: all of a plain one."""
    if not isinstance(tensor, DTensor):
        return [Piece(tensor.detach(), tuple(tensor.shape), (0,) * tensor.dim())]
    return cut.boxes(tensor.to_local().detach(), tuple(tensor.shape))


def local(tensor: Tensor) -> Tensor:
    """The numbers this process holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(mine: Tensor, like: Tensor) -> Tensor:
    """The whole tensor of which `mine` is this process's part, cut as `like` is. All processes call this together."""
    return cut_of(like).gathered(mine, like.shape[0]) if isinstance(like, DTensor) else mine


def piece(whole: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, cut as the parameter `like` is."""
    return cut_of(like).taken(whole) if isinstance(like, DTensor) else whole


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
