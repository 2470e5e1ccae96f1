"""The processes of a run: sums over them, and what happens to gradients. One process is the simplest case."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor

from luhuo.train.pieces import copies

BUCKET = 32 * 2**20
"""Numbers that are reduced in one message."""


class Ranks:
    """All processes of `torch.distributed`, or this one alone."""

    def __init__(self) -> None:
        together = distributed.is_initialized()
        self.count = distributed.get_world_size() if together else 1
        self.rank = distributed.get_rank() if together else 0

    @property
    def main(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all ranks."""
        if self.count > 1:
            value = value.clone()
            distributed.all_reduce(value)
        return value

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag, true if it is on any rank."""
        if self.count == 1:
            return flags
        values = torch.tensor([float(flag) for flag in flags], device=self._device())
        distributed.all_reduce(values, op=distributed.ReduceOp.MAX)
        return tuple(bool(value) for value in values.tolist())

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.count > 1:
            distributed.barrier()

    @staticmethod
    def sharded(model: nn.Module) -> bool:
        """Whether ranks hold pieces of the parameters instead of copies."""
        return any(isinstance(parameter, DTensor) for parameter in model.parameters())

    def reduce(self, gradients: Sequence[Tensor]) -> float:
        """Sum the gradients of copied parameters over the ranks, in place; the norm of all gradients together.

        Gradients of sharded parameters have been summed when they were scattered.
        """
        copied = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
        if self.count > 1:
            self._sum_in_buckets(copied)
        square = _square(copied) if copied else torch.zeros((), dtype=torch.float64)
        by_copies: dict[int, list[Tensor]] = {}
        for gradient in gradients:
            if isinstance(gradient, DTensor):
                by_copies.setdefault(copies(gradient), []).append(gradient.to_local())
        for count, pieces in by_copies.items():
            mine = _square(pieces)
            square = square.to(mine.device) + self.sum(mine) / count
        return square.sqrt().item()

    def _sum_in_buckets(self, gradients: Sequence[Tensor]) -> None:
        bucket: list[Tensor] = []
        size = 0
        for gradient in [*gradients, None]:
            if bucket and (gradient is None or size + gradient.numel() > BUCKET):
                flat = torch.cat([member.flatten() for member in bucket])
                distributed.all_reduce(flat)
                for member, piece in zip(bucket, flat.split([member.numel() for member in bucket]), strict=True):
                    member.copy_(piece.view_as(member))
                bucket, size = [], 0
            if gradient is not None:
                bucket.append(gradient)
                size += gradient.numel()

    @staticmethod
    def _device() -> torch.device:
        return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")


def _square(gradients: list[Tensor]) -> Tensor:
    """Sum of the squares of all numbers, in double precision."""
    return torch.stack(torch._foreach_norm(gradients)).double().square().sum()  # pyright: ignore[reportPrivateImportUsage]
