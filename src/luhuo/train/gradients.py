"""Gradients of a global batch: split into micro-batches, summed over the ranks, clipped by their norm."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from luhuo.core.errors import RunFailed
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.model.decoder import Decoder
from luhuo.model.moe import MoE
from luhuo.train import half_gradients
from luhuo.train.compiling import Compiler
from luhuo.train.objective import Batch, Objective
from luhuo.train.parallel import synchronise
from luhuo.train.pieces import local
from luhuo.train.ranks import Ranks


class Gradients:
    """Forward and backward passes of one rank's batches; `rows` a pass, 0: all of the batch at once.

    `tell` is given a message when memory runs out and the batch is split. `compiler` is what the passes are compiled
    by, if they are.
    """

    def __init__(
        self, model: Decoder, objective: Objective, ranks: Ranks, rows: int, tell: Callable[[str], None] = say
    ) -> None:
        self.model, self.objective, self.ranks, self.rows, self.tell = model, objective, ranks, rows, tell
        self.compiler: Compiler | None = None
        self.halves: list[nn.Parameter] = []
        """Parameters whose gradients may stay in bf16 when there is one pass only."""

    def compute(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Gradients of the loss over the global weight; returns that weight and this rank's sums of the metrics.

        When memory runs out, the batch is split into twice as many parts and computed again: the result is the same.
        When a pass does not compile, it is computed again eagerly.
        Raises `RunFailed` for a global batch without a target.
        """
        weight = self.ranks.sum(self.objective.weight(batch).double())
        if weight == 0:
            raise RunFailed(tr("A batch has no target at all.", "这一批里没有任何训练目标。"), where=f"step {step}")
        random = torch.get_rng_state()
        while True:
            try:
                total: dict[str, Tensor] = {}
                parts = self._micro_batches(batch)
                compiled = self.compiler is not None and self.compiler.on
                half_gradients.keep_half(self.halves, half=len(parts) == 1 and not compiled)
                for number, part in enumerate(parts, 1):
                    synchronise(self.model, now=number == len(parts))
                    if self.compiler is not None:
                        self.compiler.begin(part)
                    loss, _, metrics = self.objective.loss(self.model, part)
                    (loss / weight).backward()
                    for name, value in {"loss": loss, **metrics}.items():
                        total[name] = total.get(name, 0) + value.detach().double()
                return weight, total
            except RuntimeError as error:
                if not self.ranks.sharded(self.model) and self.compiler is not None and self.compiler.failed(error):
                    self._forget(random)
                    continue
                rows = min(self.rows or len(batch["ids"]), len(batch["ids"]))
                if not _out_of_memory(error) or rows == 1 or self.ranks.sharded(self.model):
                    raise
                self.rows = -(-rows // 2)
            self._forget(random)
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            self.tell(
                tr(
                    f"Out of memory: {self.rows} rows per forward pass from now on, the batch stays the same.",
                    f"内存不足：此后每次前向 {self.rows} 行，整批大小不变。",
                )
            )

    def _forget(self, random: Tensor) -> None:
        """Undo what passes that did not finish have left behind."""
        self.model.zero_grad(set_to_none=True)
        torch.set_rng_state(random)
        for module in self.model.modules():
            if isinstance(module, MoE):
                module.load = None

    def reduce(self, clip: float) -> float:
        """Sum the gradients over ranks, clip them by their global norm, and return that norm before clipping."""
        parameters = list(self.model.parameters())
        norm = self.ranks.reduce(parameters)
        if clip and clip < norm < math.inf:
            gradients = [local(p.grad) for p in parameters if p.grad is not None]
            torch._foreach_mul_(gradients, clip / norm)  # pyright: ignore[reportPrivateImportUsage]
        return norm

    def _micro_batches(self, batch: Batch) -> list[Batch]:
        rows = self.rows or len(batch["ids"])
        pieces = {name: tensor.split(rows) for name, tensor in batch.items()}
        return [{name: pieces[name][i] for name in batch} for i in range(len(pieces["ids"]))]


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
