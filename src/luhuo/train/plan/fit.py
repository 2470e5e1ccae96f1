"""The micro-batch of a run whose config names none: all rows, or as many as the plan leaves room for.

On a CPU this is what prevents the end of a run: when memory is gone the system kills the process, and no error comes
that a trainer could answer by splitting the batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from luhuo.core.language import tr
from luhuo.model.decoder import Decoder
from luhuo.train.config import TrainerConfig
from luhuo.train.gradients import Gradients
from luhuo.train.objective import Batch
from luhuo.train.plan.machine import available_memory
from luhuo.train.plan.memory import Run, memory


class Fit:
    """Sets `gradients.rows` before a batch that is larger than those before; `free` says how many bytes there are."""

    def __init__(self, model: Decoder, config: TrainerConfig, free: Callable[[], float] | None = None) -> None:
        self.model, self.config = model, config
        self.free = free or (lambda: _free(model.device))
        self.largest = 0

    def __call__(self, gradients: Gradients, batch: Batch) -> None:
        """Choose the rows for this batch, and say so where they are not all."""
        rows, length = len(batch["ids"]), batch["ids"].shape[1] - 1
        planned = isinstance(self.model, Decoder) and self.model.device.type in ("cpu", "cuda")
        if gradients.rows or rows <= self.largest or not planned or gradients.ranks.sharded(self.model):
            return
        self.largest, free, fitting = rows, self.free(), rows
        while fitting > 1 and self._needed(fitting, length, split=fitting < rows) > free:
            fitting = -(-fitting // 2)
        if fitting < rows:
            gradients.rows = fitting
            there, needed = f"{free / 1e9:.1f} GB", f"{self._needed(rows, length) / 1e9:.1f} GB"
            gradients.tell(
                tr(
                    f"{fitting} rows per forward pass: all {rows} would take about {needed}, {there} are free. "
                    "The batch stays the same; micro_batch sets it by hand.",
                    f"每次前向 {fitting} 行：全部 {rows} 行约需 {needed}，可用 {there}。"
                    "整批大小不变；可用 micro_batch 指定。",
                )
            )

    def _needed(self, rows: int, length: int, *, split: bool = False) -> float:
        """Bytes beyond what is held already, the process and the weights; the optimiser's state is still untouched."""
        config, kind = self.config, self.model.device.type
        half = self.model.dtype != torch.float32
        run = Run(
            self.model.config,
            rows,
            length,
            config.optimiser,
            config.recompute,
            half,
            averaged=config.ema > 0,
            background=config.background,
            kind=kind,
            split=split,
        )
        found = memory(run)
        return found.peak - found.process - found.weights - found.average


def _free(device: torch.device) -> float:
    return float(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else available_memory()
