"""The training loop: one for every objective.

Loss = sum over valid targets / their global number, counted over all micro-batches and ranks before the first
backward pass; so neither the split into micro-batches nor the number of processes changes the result.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, distributed

from luhuo.core.artifact import Workspace
from luhuo.core.device import pick_dtype
from luhuo.core.errors import Interrupted, RunFailed
from luhuo.core.language import tr
from luhuo.core.progress import Progress, say
from luhuo.model.count import flops_per_token
from luhuo.model.decoder import Decoder
from luhuo.train import checkpoint, schedule
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import Batch, Objective
from luhuo.train.optimisers import Optimiser
from luhuo.train.throughput import matmul_rate


class Loader(Protocol):
    """An endless source of batches (dicts of arrays, rows first) whose place can be saved."""

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]: ...

    def state(self) -> dict[str, Any]:
        """JSON value of the place: after `restore`, the next batch is the one that would have come."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a place given by `state`."""
        ...


Evaluate = Callable[[Decoder], dict[str, float]]
"""Scores a model on held-out data: flat names to numbers."""


class Trainer:
    """Trains `model` in place. `run` returns the last metrics; checkpoints live in `out.path/.checkpoint`.

    The model's parameters must be fp32 (they are the master weights); `config.dtype` is what it computes in. With
    `torch.distributed` initialised, each rank gives its own share of the global batch. Call `run` again after a kill,
    with a freshly made model, and it continues from the last checkpoint as if nothing had happened.
    """

    def __init__(
        self,
        model: Decoder,
        objective: Objective,
        loader: Loader,
        config: TrainerConfig,
        out: Workspace,
        *,
        evaluate: Evaluate | None = None,
        title: str = "train",
    ) -> None:
        self.model, self.objective, self.loader, self.config, self.out = model, objective, loader, config, out
        self.evaluate, self.title = evaluate, title
        self.optimiser = Optimiser(model, config)
        self.folder = out.path / ".checkpoint"
        self.step = 0
        self.tokens = 0
        self.last: dict[str, float] = {}
        self._stop = False
        self._ranks = distributed.get_world_size() if distributed.is_initialized() else 1
        self._main = self._ranks == 1 or distributed.get_rank() == 0

    def run(self) -> dict[str, float]:
        """Train to the last step. Raises `RunFailed` if the loss is not finite, `Interrupted` on a signal."""
        self._resume()
        dtype = pick_dtype(self.config.dtype, self.model.device)
        rate = matmul_rate(self.model.device, dtype)
        self.model.train().compute_in(None if dtype == torch.float32 else dtype)
        saved = logged = time.monotonic()
        tokens = 0
        batches = iter(self.loader)
        with self._signals(), Progress(self.title, self.config.steps, tr("steps", "步")) as progress:
            progress.start_from(self.step)
            while self.step < self.config.steps:
                place = self.loader.state()
                metrics = self._step(self._tensors(next(batches)), place)
                tokens += int(metrics.pop("step_tokens"))
                if self.step % self.config.log_every == 0 or self.step == self.config.steps:
                    now = time.monotonic()
                    metrics["tokens_per_s"] = tokens / (now - logged)
                    metrics["mfu"] = metrics["tokens_per_s"] * metrics.pop("flops") / rate
                    self._log(metrics)
                    logged, tokens = now, 0
                progress.advance(1, note=f"loss {metrics['loss']:.3f}")
                logged += self._evaluate_if_due()
                saved = self._save_if_due(saved)
        self.model.compute_in(None).eval()
        return self.last

    def clean(self) -> None:
        """Remove the checkpoints: the result has been written."""
        checkpoint.remove(self.folder)

    def _step(self, batch: Batch, place: dict[str, Any]) -> dict[str, float]:
        """One optimiser step on the batch of this rank; metrics averaged over the global batch."""
        parts = self._micro_batches(batch)
        weight = self._global(torch.stack([self.objective.weight(part) for part in parts]).sum().double())
        if weight == 0:
            raise RunFailed(
                tr("A batch has no target at all.", "这一批里没有任何训练目标。"), where=f"step {self.step + 1}"
            )
        total: dict[str, Tensor] = {}
        for part in parts:
            loss, _, metrics = self.objective.loss(self.model, part)
            (loss / weight).backward()
            for name, value in {"loss": loss, **metrics}.items():
                total[name] = total.get(name, 0) + value.detach().double()
        norm = self._reduce_gradients()
        averages = {name: (self._global(value) / weight).item() for name, value in total.items()}
        if not math.isfinite(averages["loss"]) or not math.isfinite(norm):
            self._refuse(averages["loss"], norm, place)
        factor = schedule.factor(self.step, self.config)
        self.optimiser.step(factor)
        self.model.zero_grad(set_to_none=True)
        self.step += 1
        rows, length = len(batch["ids"]) * self._ranks, batch["ids"].shape[1] - 1
        self.tokens += rows * length
        rates = {"lr": self.config.learning_rate * factor, "grad_norm": norm}
        return averages | rates | {"step_tokens": rows * length, "flops": flops_per_token(self.model.config, length)}

    def _micro_batches(self, batch: Batch) -> list[Batch]:
        rows = self.config.micro_batch or len(batch["ids"])
        pieces = {name: tensor.split(rows) for name, tensor in batch.items()}
        return [{name: pieces[name][i] for name in batch} for i in range(len(pieces["ids"]))]

    def _tensors(self, batch: dict[str, np.ndarray]) -> Batch:
        return {name: torch.from_numpy(array).to(self.model.device) for name, array in batch.items()}

    def _global(self, value: Tensor) -> Tensor:
        if self._ranks > 1:
            distributed.all_reduce(value)
        return value

    def _reduce_gradients(self) -> float:
        """Sum the gradients over ranks, clip them by their global norm, and return that norm before clipping."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        if self._ranks > 1:
            flat = torch.cat([g.flatten() for g in gradients])
            distributed.all_reduce(flat)
            for gradient, piece in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(piece.view_as(gradient))
        norm = torch.stack(torch._foreach_norm(gradients)).norm().item()  # pyright: ignore[reportPrivateImportUsage]
        if self.config.clip and norm > self.config.clip:
            torch._foreach_mul_(gradients, self.config.clip / norm)  # pyright: ignore[reportPrivateImportUsage]
        return norm

    def _refuse(self, loss: float, norm: float, place: dict[str, Any]) -> None:
        """Stop before the optimiser moves: the state before this batch is saved, nothing is lost."""
        self.model.zero_grad(set_to_none=True)
        self._save(place)
        raise RunFailed(
            tr("The loss or its gradient is not finite.", "损失或梯度不是有限数。"),
            found=f"loss {loss}, gradient norm {norm}",
            where=f"{self.title}, step {self.step + 1}",
            fix=tr(
                "The weights before this step are kept. Lower learning_rate, or use dtype=fp32.",
                "此步之前的权重已保留。请降低 learning_rate，或使用 dtype=fp32。",
            ),
        )

    def _log(self, metrics: dict[str, float]) -> None:
        self.last |= metrics
        if self._main:
            rounded = {name: float(f"{value:.6g}") for name, value in metrics.items()}
            self.out.metrics.write(step=self.step, tokens=self.tokens, **rounded)

    def _evaluate_if_due(self) -> float:
        """Score held-out data when it is time; returns the seconds this took."""
        every, last = self.config.eval_every, self.step == self.config.steps
        if self.evaluate is None or not (last or (every and self.step % every == 0)):
            return 0.0
        start = time.monotonic()
        self.model.eval()
        with torch.no_grad():
            scores = self.evaluate(self.model)
        self.model.train()
        self._log(scores)
        return time.monotonic() - start

    def _save_if_due(self, saved: float) -> float:
        """Write a checkpoint when steps or seconds say so, or a signal came; returns the time of the last one."""
        done = self.step == self.config.steps
        by_step = self.config.checkpoint_every and self.step % self.config.checkpoint_every == 0
        by_time = self.config.checkpoint_every_s and time.monotonic() - saved >= self.config.checkpoint_every_s
        if self._ranks > 1:  # clocks and signals differ between ranks: one decides for all
            stop = torch.tensor([float(self._stop), float(bool(by_time))])
            distributed.all_reduce(stop, op=distributed.ReduceOp.MAX)
            self._stop, by_time = bool(stop[0]), bool(stop[1])
        if not (done or by_step or by_time or self._stop):
            return saved
        self._save(self.loader.state())
        if self._stop and not done:
            raise Interrupted(
                tr(
                    f"Stopped after step {self.step}; everything is saved.",
                    f"在第 {self.step} 步之后停止；进度已保存。",
                ),
                fix=tr("Run the same command again to go on.", "重新运行同一命令即可继续。"),
            )
        return time.monotonic()

    def _save(self, place: dict[str, Any]) -> None:
        if self._main:
            random = {"cpu": torch.get_rng_state()}
            if self.model.device.type == "cuda":
                random["cuda"] = torch.cuda.get_rng_state(self.model.device)
            parts = {
                "model": dict(self.model.named_parameters()),
                "optimiser": self.optimiser.state(),
                "random": random,
            }
            values = {"loader": place, "tokens": self.tokens, "last": self.last}
            checkpoint.write(self.folder, checkpoint.Checkpoint(self.step, parts, values))
        if self._ranks > 1:
            distributed.barrier()

    def _resume(self) -> None:
        found = checkpoint.read_last(self.folder)
        self.out.metrics.keep_until(found.step if found else 0)
        if found is None:
            return
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(found.tensors["model"][name])
        self.optimiser.restore(found.tensors["optimiser"])
        torch.set_rng_state(found.tensors["random"]["cpu"])
        if "cuda" in found.tensors["random"] and self.model.device.type == "cuda":
            torch.cuda.set_rng_state(found.tensors["random"]["cuda"], self.model.device)
        self.loader.restore(found.values["loader"])
        self.step, self.tokens, self.last = found.step, found.values["tokens"], found.values["last"]
        say(tr(f"Continuing from step {self.step}.", f"从第 {self.step} 步继续。"))

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM end the run after the current step, with a checkpoint; a second one at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: Any) -> None:
            if self._stop:
                raise KeyboardInterrupt
            self._stop = True

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
