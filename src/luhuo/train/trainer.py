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
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, distributed

from luhuo.core.artifact import Workspace
from luhuo.core.device import pick_dtype
from luhuo.core.errors import Interrupted, LuhuoError, RunFailed
from luhuo.core.language import tr
from luhuo.core.progress import Progress, say
from luhuo.model.count import flops_per_token
from luhuo.model.decoder import Decoder
from luhuo.train import checkpoint, schedule
from luhuo.train.batch_warmup import GrowingLoader
from luhuo.train.config import TrainerConfig
from luhuo.train.ema import Average
from luhuo.train.guard import LossGuard, Verdict
from luhuo.train.objective import Batch, Objective
from luhuo.train.optimisers import Optimiser
from luhuo.train.ranks import Ranks
from luhuo.train.throughput import matmul_rate
from luhuo.train.watchdog import Watchdog


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
        self.model, self.objective, self.config, self.out = model, objective, config, out
        warm = round(config.steps * config.batch_warmup)
        self.loader = GrowingLoader(loader, warm, config.batch_start) if warm else loader
        self.evaluate, self.title = evaluate, title
        self.optimiser = Optimiser(model, config)
        self.average = Average(model, config.ema) if config.ema else None
        self.guard = LossGuard(config.spike, config.rollbacks)
        self.ranks = Ranks()
        self.folder = out.path / ".checkpoint"
        self.writer = checkpoint.Writer(
            self.folder,
            rank=self.ranks.rank,
            ranks=self.ranks.count if self.ranks.sharded(model) else 1,
            keep=config.keep,
            background=config.background,
        )
        self.step = 0
        self.tokens = 0
        self.last: dict[str, float] = {}
        self.best: float | None = None
        self._rows = config.micro_batch
        self._stop = False

    def run(self) -> dict[str, float]:
        """Train to the last step. Raises `RunFailed` if the loss cannot be made finite, `Interrupted` on a signal."""
        found = checkpoint.read_last(self.folder)
        self.out.metrics.keep_until(found.step if found else 0)
        if found is not None:
            self._restore(found)
            self.loader.restore(found.values["loader"])
            say(tr(f"Continuing from step {self.step}.", f"从第 {self.step} 步继续。"))
        dtype = pick_dtype(self.config.dtype, self.model.device)
        self.model.train().compute_in(None if dtype == torch.float32 else dtype)
        rate = matmul_rate(self.model.device, dtype)
        watchdog = Watchdog(self.folder / ".ranks", self.ranks.rank, self.ranks.count, self.config.watchdog_s)
        try:
            with self._signals(), watchdog, Progress(self.title, self.config.steps, tr("steps", "步")) as progress:
                progress.start_from(self.step)
                self._loop(progress, watchdog, rate)
        except RuntimeError as error:
            if self.ranks.count == 1 or not _lost_connection(error):
                raise
            raise RunFailed(
                tr("Another process of this run is gone.", "本次运行的另一个进程已不在。"),
                found=watchdog.report(),
                where=f"{self.title}, step {self.step + 1}",
                fix=tr("Start all processes again: the run goes on.", "重新启动全部进程即可继续。"),
            ) from error
        self.writer.wait()
        self._finish()
        self.model.compute_in(None).eval()
        return self.last

    def clean(self) -> None:
        """Remove the checkpoints: the result has been written."""
        if self.ranks.main:
            checkpoint.remove(self.folder)

    def _loop(self, progress: Progress, watchdog: Watchdog, rate: float) -> None:
        saved = logged = time.monotonic()
        tokens = 0
        batches = iter(self.loader)
        while self.step < self.config.steps:
            watchdog.beat(self.step + 1, "data")
            batch = self._tensors(next(batches))
            watchdog.beat(self.step + 1, "step")
            metrics = self._step(batch)
            if metrics is None:
                continue
            tokens += int(metrics.pop("step_tokens"))
            if self.step % self.config.log_every == 0 or self.step == self.config.steps:
                now = time.monotonic()
                metrics["tokens_per_s"] = tokens / (now - logged)
                metrics["mfu"] = metrics["tokens_per_s"] * metrics.pop("flops") / rate / self.ranks.count
                self._log(metrics)
                logged, tokens = now, 0
            progress.advance(1, note=f"loss {metrics['loss']:.3f}")
            logged += self._evaluate_if_due()
            saved = self._save_if_due(saved)

    def _finish(self) -> None:
        """Put the weights in place that are the result: the averaged, or those of the best score."""
        if self.average is not None:
            self.average.keep(self.model)
        if self.config.keep_best and (found := checkpoint.read_named(self.folder, "best")) is not None:
            for name, parameter in self.model.named_parameters():
                found.load_into("model", name, parameter)

    def _step(self, batch: Batch) -> dict[str, float] | None:
        """One optimiser step on the batch of this rank; metrics averaged over the global batch.

        None if the batch was passed over because of its loss.
        """
        weight, total = self._gradients(batch)
        norm = self._reduce_gradients()
        averages = {name: (self.ranks.sum(value) / weight).item() for name, value in total.items()}
        verdict = self.guard.judge(averages["loss"], norm)
        if verdict != "take":
            self.model.zero_grad(set_to_none=True)
            self._refuse(verdict, averages["loss"], norm)
            return None
        factor = schedule.factor(self.step, self.config)
        self.optimiser.step(factor)
        self.model.update_balance(self.config.balance_speed)
        self.model.zero_grad(set_to_none=True)
        self.step += 1
        if self.average is not None:
            self.average.update(self.model, self.step)
        rows, length = len(batch["ids"]) * self.ranks.count, batch["ids"].shape[1] - 1
        self.tokens += rows * length
        rates = {"lr": self.config.learning_rate * factor, "grad_norm": norm}
        return averages | rates | {"step_tokens": rows * length, "flops": flops_per_token(self.model.config, length)}

    def _gradients(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Forward and backward of this rank's batch: the global weight, and this rank's sums.

        When memory runs out, the batch is split into twice as many parts and computed again: the result is the same.
        """
        weight = self.ranks.sum(self.objective.weight(batch).double())
        if weight == 0:
            raise RunFailed(
                tr("A batch has no target at all.", "这一批里没有任何训练目标。"), where=f"step {self.step + 1}"
            )
        random = torch.get_rng_state()
        while True:
            try:
                total: dict[str, Tensor] = {}
                for part in self._micro_batches(batch):
                    loss, _, metrics = self.objective.loss(self.model, part)
                    (loss / weight).backward()
                    for name, value in {"loss": loss, **metrics}.items():
                        total[name] = total.get(name, 0) + value.detach().double()
                return weight, total
            except RuntimeError as error:
                rows = min(self._rows or len(batch["ids"]), len(batch["ids"]))
                if not _out_of_memory(error) or rows == 1 or self.ranks.sharded(self.model):
                    raise
                self._rows = -(-rows // 2)
            self.model.zero_grad(set_to_none=True)
            torch.set_rng_state(random)
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            say(
                tr(
                    f"Out of memory: {self._rows} rows per forward pass from now on, the batch stays the same.",
                    f"内存不足：此后每次前向 {self._rows} 行，整批大小不变。",
                )
            )

    def _micro_batches(self, batch: Batch) -> list[Batch]:
        rows = self._rows or len(batch["ids"])
        pieces = {name: tensor.split(rows) for name, tensor in batch.items()}
        return [{name: pieces[name][i] for name in batch} for i in range(len(pieces["ids"]))]

    def _tensors(self, batch: dict[str, np.ndarray]) -> Batch:
        return {name: torch.from_numpy(array).to(self.model.device) for name, array in batch.items()}

    def _reduce_gradients(self) -> float:
        """Sum the gradients over ranks, clip them by their global norm, and return that norm before clipping."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = self.ranks.reduce(gradients)
        if self.config.clip and self.config.clip < norm < math.inf:
            torch._foreach_mul_(gradients, self.config.clip / norm)  # pyright: ignore[reportPrivateImportUsage]
        return norm

    def _refuse(self, verdict: Verdict, loss: float, norm: float) -> None:
        """Pass the batch over, go back, or stop: the weights have not moved, nothing is lost."""
        where = f"{self.title}, step {self.step + 1}"
        seen = tr(f"loss {loss:.4g}, gradient norm {norm:.4g}", f"损失 {loss:.4g}，梯度范数 {norm:.4g}")
        if verdict == "skip":
            say(tr(f"{where}: {seen}; this batch is passed over.", f"{where}：{seen}；跳过这一批。"))
            return
        self.writer.wait()
        self.ranks.barrier()
        found = checkpoint.read_last(self.folder)
        if verdict == "back" and found is not None:
            self._restore(found, guard=False)
            self.out.metrics.keep_until(self.step)
            self._save()
            say(
                tr(
                    f"{where}: {seen}; back to the weights of step {self.step}, on with new data.",
                    f"{where}：{seen}；回到第 {self.step} 步的权重，继续使用新数据。",
                )
            )
            return
        returned, self.guard.returned = self.guard.returned, 0  # the same command may try again
        self._save()
        self.writer.wait()
        raise RunFailed(
            tr("The loss or its gradient is not finite, or far above all before.", "损失或梯度非有限，或远高于以往。"),
            found=f"{seen}; " + tr(f"returns to a checkpoint: {returned}", f"回退到检查点的次数：{returned}"),
            where=where,
            fix=tr(
                "The weights before this step are kept. Lower learning_rate, use dtype=fp32, or look at the data.",
                "此步之前的权重已保留。请降低 learning_rate、使用 dtype=fp32，或检查数据。",
            ),
        )

    def _log(self, metrics: dict[str, float]) -> None:
        self.last |= metrics
        if self.ranks.main:
            rounded = {name: float(f"{value:.6g}") for name, value in metrics.items()}
            self.out.metrics.write(step=self.step, tokens=self.tokens, **rounded)

    def _evaluate_if_due(self) -> float:
        """Score held-out data when it is time; returns the seconds this took."""
        every, last = self.config.eval_every, self.step == self.config.steps
        if self.evaluate is None or not (last or (every and self.step % every == 0)):
            return 0.0
        start = time.monotonic()
        self.model.eval()
        with torch.no_grad(), self.average.in_place(self.model) if self.average else nullcontext():
            scores = self.evaluate(self.model)
            self._keep_if_best(scores)
        self.model.train()
        self._log(scores)
        return time.monotonic() - start

    def _keep_if_best(self, scores: dict[str, float]) -> None:
        name = self.config.keep_best
        if not name:
            return
        if name not in scores:
            raise LuhuoError(
                tr("keep_best names a score that is not measured.", "keep_best 所指的指标并未测量。"),
                expected=", ".join(scores),
                found=name,
            )
        if self.best is None or scores[name] < self.best:
            self.best = scores[name]
            self.writer.write(self.step, {"model": dict(self.model.named_parameters())}, {"score": self.best}, "best")

    def _save_if_due(self, saved: float) -> float:
        """Write a checkpoint when steps or seconds say so, or a signal came; returns the time of the last one."""
        done = self.step == self.config.steps
        by_step = self.config.checkpoint_every and self.step % self.config.checkpoint_every == 0
        by_time = self.config.checkpoint_every_s and time.monotonic() - saved >= self.config.checkpoint_every_s
        # Clocks and signals differ between ranks: one decides for all.
        self._stop, by_time = self.ranks.any(self._stop, bool(by_time))
        if not (done or by_step or by_time or self._stop):
            return saved
        self._save()
        if self._stop and not done:
            self.writer.wait()
            raise Interrupted(
                tr(
                    f"Stopped after step {self.step}; everything is saved.",
                    f"在第 {self.step} 步之后停止；进度已保存。",
                ),
                fix=tr("Run the same command again to go on.", "重新运行同一命令即可继续。"),
            )
        return time.monotonic()

    def _save(self) -> None:
        if self.ranks.main or self.writer.ranks > 1:
            random = {"cpu": torch.get_rng_state()}
            if self.model.device.type == "cuda":
                random["cuda"] = torch.cuda.get_rng_state(self.model.device)
            parts = {
                "model": dict(self.model.named_parameters()),
                "optimiser": self.optimiser.state(),
                "average": {} if self.average is None else self.average.weights,
                "random": random,
            }
            values = {
                "loader": self.loader.state(),
                "tokens": self.tokens,
                "last": self.last,
                "guard": self.guard.state(),
                "best": self.best,
            }
            self.writer.write(self.step, parts, values)

    def _restore(self, found: checkpoint.Saved, *, guard: bool = True) -> None:
        """Take the state of a checkpoint, but not its place in the data; with `guard`, also what the guard knew."""
        for name, parameter in self.model.named_parameters():
            found.load_into("model", name, parameter)
        self.optimiser.restore(found)
        if self.average is not None:
            for name, weight in self.average.weights.items():
                found.load_into("average", name, weight)
        torch.set_rng_state(found.tensor("random", "cpu"))
        if "cuda" in found.names("random") and self.model.device.type == "cuda":
            torch.cuda.set_rng_state(found.tensor("random", "cuda"), self.model.device)
        values = found.values
        self.step, self.tokens, self.last, self.best = found.step, values["tokens"], values["last"], values["best"]
        if guard:
            self.guard.restore(values["guard"])

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


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _lost_connection(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, distributed.DistError) or any(
        word in text for word in ("connection closed", "connection reset", "connection refused", "timed out", "gloo")
    )
