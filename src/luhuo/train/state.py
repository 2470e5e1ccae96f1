"""The state of a run: everything that a checkpoint holds, saved and taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch

from luhuo.adapter.attach import attached
from luhuo.adapter.files import base_digest
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.decoder import Decoder
from luhuo.train import checkpoint
from luhuo.train.config import TrainerConfig
from luhuo.train.ema import Average
from luhuo.train.guard import LossGuard
from luhuo.train.optimisers import Optimiser
from luhuo.train.pieces import cut_of
from luhuo.train.ranks import Ranks
from luhuo.train.sparsity import Zeros


class Place(Protocol):
    """What has a place in the data."""

    def state(self) -> dict[str, Any]:
        """JSON value of the place."""
        ...


class RunState:
    """Weights, optimiser, averaged weights, random numbers, and the counters of a run. Of a model with an adapter a
    checkpoint holds what is trained, and the reference and digest of the model below.

    `step` and `tokens` count what has been learned from, `seconds` the time this took (evaluation and samples are not
    in it), `skipped` the batches passed over; `last` holds the newest value of every metric, `best` the lowest score
    of `keep_best`.
    """

    def __init__(self, model: Decoder, config: TrainerConfig, loader: Place, folder: Path, ranks: Ranks) -> None:
        self.model, self.loader, self.folder, self.ranks = model, loader, folder, ranks
        # Taken once: between passes FSDP shows gathered parameters in their place.
        self.adapter = attached(model)
        self.parameters = {name: p for name, p in model.named_parameters() if self.adapter is None or p.requires_grad}
        self.base = "" if self.adapter is None else base_digest(self.adapter.base)
        self.cuts = {name: cut_of(parameter) for name, parameter in self.parameters.items()}
        self.optimiser = Optimiser(model, config)
        self.average = Average(model, config.ema) if config.ema else None
        self.zeros = Zeros(model, config.sparsity, config.steps)
        self.guard = LossGuard(config.spike, config.rollbacks)
        self.step = 0
        self.tokens = 0
        self.seconds = 0.0
        self.skipped = 0
        self.last: dict[str, float] = {}
        self.best: float | None = None
        self.writer = checkpoint.Writer(
            folder,
            rank=ranks.process,
            ranks=ranks.processes if ranks.sharded(model) else 1,
            cuts=self.cuts,
            keep=config.keep,
            background=config.background,
        )

    def open(self) -> checkpoint.Saved | None:
        """Make the folder of checkpoints ready; the last one, if there is any. All ranks call this together."""
        if self.ranks.main:
            checkpoint.tidy(self.folder)
        self.ranks.barrier()
        return checkpoint.read_last(self.folder)

    def save(self) -> None:
        """Write a checkpoint of this step; with sharded weights, all ranks call this together."""
        if not (self.ranks.main or self.writer.ranks > 1):
            return
        random = {self._random("cpu"): torch.get_rng_state()}
        if self.model.device.type == "cuda":
            random[self._random("cuda")] = torch.cuda.get_rng_state(self.model.device)
        parts = {
            "model": self.parameters,
            "optimiser": self.optimiser.state(),
            "average": {} if self.average is None else self.average.weights,
            "random": random,
        }
        if self.adapter is not None:
            parts["adapter"] = self.adapter.state()
        values = {
            "loader": self.loader.state(),
            "tokens": self.tokens,
            "seconds": self.seconds,
            "skipped": self.skipped,
            "last": self.last,
            "guard": self.guard.state(),
            "best": self.best,
        }
        if self.adapter is not None:
            values["base"] = {"reference": self.adapter.base, "sha256": self.base}
        self.writer.write(self.step, parts, values)

    def save_best(self, score: float) -> None:
        """Keep these weights as the best so far."""
        self.best = score
        if self.ranks.main or self.writer.ranks > 1:
            self.writer.write(self.step, {"model": self.parameters}, {"score": score}, checkpoint.BEST)

    def restore(self, found: checkpoint.Saved, *, guard: bool = True) -> None:
        """Take the state of a checkpoint, not its place in the data.

        With `guard`, also what guard and clock knew, and the best score: without it, a run goes back within its life.
        """
        found.cuts = self.cuts
        if self.adapter is not None:
            self._check_base(found)
            for name, tensor in self.adapter.state().items():
                found.load_into("adapter", name, tensor)
        for name, parameter in self.parameters.items():
            found.load_into("model", name, parameter)
        self.optimiser.restore(found)
        if self.average is not None:
            for name, weight in self.average.weights.items():
                found.load_into("average", name, weight)
        written = found.names("random")
        mine = {kind: name if (name := self._random(kind)) in written else kind for kind in ("cpu", "cuda")}
        torch.set_rng_state(found.tensor("random", mine["cpu"]))
        if mine["cuda"] in written and self.model.device.type == "cuda":
            torch.cuda.set_rng_state(found.tensor("random", mine["cuda"]), self.model.device)
        values = found.values
        self.step, self.tokens, self.last = found.step, values["tokens"], values["last"]
        self.zeros.restore(self.step)
        if guard:
            self.guard.restore(values["guard"])
            self.seconds, self.skipped, self.best = values["seconds"], values["skipped"], values["best"]

    def _check_base(self, found: checkpoint.Saved) -> None:
        """Raise `LuhuoError` if a checkpoint of an adapter belongs to another model: it holds what is trained only."""
        wanted = found.values.get("base", {"reference": "", "sha256": ""})
        if wanted["sha256"] != self.base:
            raise LuhuoError(
                tr("The checkpoint belongs to an adapter of another model.", "检查点属于另一个模型的适配器。"),
                expected=f"{wanted['reference']} sha256 {wanted['sha256'][:16]}",
                found=f"sha256 {self.base[:16]}",
                where=found.path,
                fix=tr("Start in a new folder, or put the model back.", "请换一个新目录，或恢复原来的模型。"),
            )

    def keep_result(self, best: bool) -> None:
        """Put the weights in place that are the result: the averaged, or (`best`) those of the best score. All ranks
        call this together, each when its own part of the last checkpoint is written."""
        if self.average is not None:
            self.average.keep(self.model)
        if not best:
            return
        self.ranks.barrier()  # the first rank names a checkpoint: only then is the newest best one to be found
        if (found := checkpoint.read_best(self.folder)) is not None:
            found.cuts = self.cuts
            for name, parameter in self.parameters.items():
                found.load_into("model", name, parameter)
        self.ranks.barrier()  # and none removes it before all have read

    def _random(self, kind: str) -> str:
        """What the random state of this process is called; that of the first serves processes that had none."""
        return f"{kind}-{self.ranks.process}" if self.ranks.process else kind
