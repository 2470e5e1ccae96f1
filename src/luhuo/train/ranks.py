"""The processes of a run: sums over them, and what happens to gradients. One process is the simplest case."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor

from luhuo.train import mesh
from luhuo.train.pieces import cut_of, local

BUCKET = 32 * 2**20
"""Numbers that are reduced in one message."""


class Ranks:
    """All processes of `torch.distributed`, or this one alone.

    `rank` and `count` divide the data: those that divide each token's work (tensor parallelism) read the same and
    have the same `rank`. `process` and `processes` number all of them.
    """

    def __init__(self) -> None:
        self.mesh = mesh.current()
        self.rank, self.count = self.mesh.data.index, self.mesh.data.count
        self.process = distributed.get_rank() if distributed.is_initialized() else 0
        self.processes = self.mesh.count

    @property
    def main(self) -> bool:
        """Whether this process speaks for all."""
        return self.process == 0

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all shares of the data."""
        if self.processes > 1:
            value = value.clone()
            distributed.all_reduce(value)
            if self.processes > self.count:  # a tensor-parallel group has the same value several times
                value = value / (self.processes // self.count)
        return value

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag, true if it is on any rank."""
        if self.processes == 1:
            return flags
        values = torch.tensor([float(flag) for flag in flags], device=self.mesh.kind)
        distributed.all_reduce(values, op=distributed.ReduceOp.MAX)
        return tuple(bool(value) for value in values.tolist())

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.processes > 1:
            distributed.barrier()

    def sharded(self, model: nn.Module) -> bool:
        """Whether processes need each other for a pass: they hold parts of parameters, or of the work."""
        divided = any(self.mesh.sizes[name] > 1 for name in ("fsdp", "ep", "tp"))
        return divided and any(isinstance(parameter, DTensor) for parameter in model.parameters())

    def reduce(self, parameters: Sequence[nn.Parameter]) -> float:
        """Sum the gradients over the processes that hold copies, in place; the norm of all gradients together.

        FSDP has summed those of its pieces while it scattered them. All gradients of one kind travel together, once a
        step, however many micro-batches there were.
        """
        found = [(cut_of(p), local(p.grad)) for p in parameters if p.grad is not None]
        if self.processes > 1:
            kinds: dict[tuple[tuple[str, ...], float], list[Tensor]] = {}
            for cut, gradient in found:
                over = tuple(name for name in cut.over if self.mesh.sizes[name] > 1)
                if over:
                    kinds.setdefault((over, cut.share), []).append(gradient)
            for (over, share), gradients in kinds.items():
                self._sum_in_buckets(gradients, self.mesh.member(*over).group, share)
        square = torch.zeros((), dtype=torch.float64)
        by_copies: dict[int, list[Tensor]] = {}
        for cut, gradient in found:
            by_copies.setdefault(cut.copies or self.processes, []).append(gradient)
        for count, gradients in by_copies.items():
            mine = _square(gradients)
            square = square.to(mine.device) + (mine if count == self.processes else self._total(mine) / count)
        return square.sqrt().item()

    @staticmethod
    def _total(value: Tensor) -> Tensor:
        value = value.clone()
        distributed.all_reduce(value)
        return value

    @staticmethod
    def _sum_in_buckets(gradients: Sequence[Tensor], group: distributed.ProcessGroup | None, share: float) -> None:
        bucket: list[Tensor] = []
        size = 0
        for gradient in [*gradients, None]:
            if bucket and (gradient is None or size + gradient.numel() > BUCKET):
                flat = torch.cat([member.flatten() for member in bucket])
                distributed.all_reduce(flat, group=group)
                if share != 1:
                    flat *= share
                for member, piece in zip(bucket, flat.split([member.numel() for member in bucket]), strict=True):
                    member.copy_(piece.view_as(member))
                bucket, size = [], 0
            if gradient is not None:
                bucket.append(gradient)
                size += gradient.numel()


def _square(gradients: list[Tensor]) -> Tensor:
    """Sum of the squares of all numbers, in double precision."""
    return torch.stack(torch._foreach_norm(gradients, 2, dtype=torch.float32)).double().square().sum()  # pyright: ignore[reportPrivateImportUsage]
