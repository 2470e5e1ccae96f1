"""The training loop: one for every objective.

Loss = sum over valid targets / their global number, counted over all micro-batches and ranks before the first
backward pass; so neither the split into micro-batches nor the number of processes changes the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext

import numpy as np
import torch
from torch import distributed

from luhuo.adapter.attach import attached
from luhuo.core.artifact import Workspace
from luhuo.core.device import pick_dtype
from luhuo.core.errors import Interrupted, LuhuoError, RunFailed
from luhuo.core.language import tr
from luhuo.core.memory import keep_freed_memory
from luhuo.core.progress import say
from luhuo.model.decoder import Decoder
from luhuo.train import checkpoint, half_gradients, schedule
from luhuo.train.batch_warmup import GrowingLoader
from luhuo.train.compiling import Compiler, chosen
from luhuo.train.config import TrainerConfig
from luhuo.train.cuda import settings
from luhuo.train.eight_bit_products import multiply_in_fp8
from luhuo.train.gradients import Gradients
from luhuo.train.guard import Verdict
from luhuo.train.monitor import Monitor, expert_metrics
from luhuo.train.objective import Batch, Objective, Prepares
from luhuo.train.passes import gradient_passes
from luhuo.train.plan.fit import Fit
from luhuo.train.prefetch import Loader, Prefetcher
from luhuo.train.quantisation.training import QuantisedTraining
from luhuo.train.ranks import Ranks
from luhuo.train.samples import Sampler
from luhuo.train.signals import StopSignal
from luhuo.train.state import RunState
from luhuo.train.throughput import matmul_rate
from luhuo.train.watchdog import Watchdog
from luhuo.train.work import batch_work

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
        sample: Sampler | None = None,
        title: str = "train",
    ) -> None:
        self.model, self.objective, self.config, self.out = model, objective, config, out
        warm = round(config.steps * config.batch_warmup)
        self.loader = Prefetcher(GrowingLoader(loader, warm, config.batch_start) if warm else loader, config.prefetch)
        self.evaluate, self.sample, self.title = evaluate, sample, title
        self.ranks = Ranks()
        self.folder = out.path / ".checkpoint"
        rounded = config.quantisation
        self.rounding = None if rounded is None else QuantisedTraining(model, rounded, config.steps)
        self.state = RunState(model, config, self.loader, self.folder, self.ranks)
        self.gradients = Gradients(model, objective, self.ranks, config.micro_batch)
        self.adapter = attached(model)
        self.fit = Fit(model, config)
        self.stop = StopSignal()

    @property
    def step(self) -> int:
        """Optimiser steps taken."""
        return self.state.step

    @property
    def tokens(self) -> int:
        """Tokens learned from, over all ranks."""
        return self.state.tokens

    def run(self) -> dict[str, float]:
        """Train to the last step. Raises `RunFailed` if the loss cannot be made finite, `Interrupted` on a signal or
        when another process of the run is gone."""
        if self.model.device.type == "cpu":
            keep_freed_memory()
        found = self.state.open()
        if found is not None:
            self.state.restore(found)
            self.loader.restore(found.values["loader"])
        if self.rounding is not None:
            self.rounding.begin(self.step)
        if self.ranks.main:
            say(self.state.optimiser.table())
        dtype = pick_dtype(self.config.dtype, self.model.device)
        self.model.train().compute_in(None)
        if self.model.dtype != dtype:  # frozen weights may be kept in fewer bits than fp32
            self.model.compute_in(dtype)
        self.model.recompute = self.config.recompute
        if self.ranks.processes == 1:
            self.gradients.halves = half_gradients.matrices(self.model, self.config.optimiser)
        if self.config.fp8:
            multiply_in_fp8(self.model)
        rate = matmul_rate(self.model.device, dtype) * self.ranks.processes
        self.monitor = Monitor(self.title, self.state, self.config, self.out, rate, speaks=self.ranks.main)
        self.gradients.tell = lambda message: self.monitor.event("memory", message)
        watchdog = Watchdog(self.folder / ".ranks", self.ranks.process, self.ranks.processes, self.config.watchdog_s)
        compiler = Compiler(
            self.model,
            chosen(self.config.compile, self.model.device),
            lambda message: self.monitor.event("compile", message),
            alone=not self.ranks.sharded(self.model),
        )
        try:
            with (
                self.stop,
                watchdog,
                closing(self.loader),
                settings(self.model.device, dtype),
                self.monitor,
                compiler as self.gradients.compiler,
            ):
                if self.adapter is not None:
                    self.adapter.begin(self.config.steps, self._passes if found is None else None)
                self._loop(watchdog)
        except RuntimeError as error:
            self.state.writer.give_up()
            if self.ranks.processes == 1 or not _lost_connection(error):
                raise
            raise Interrupted(
                tr("Another process of this run is gone.", "本次运行的另一个进程已不在。"),
                found=watchdog.report(),
                where=f"{self.title}, step {self.step + 1}",
                fix=tr("Start all processes again: the run goes on.", "重新启动全部进程即可继续。"),
            ) from error
        self.state.writer.wait()
        self.state.keep_result(best=bool(self.config.keep_best))
        if self.rounding is not None:
            self.rounding.follow()
        half_gradients.keep_half(self.gradients.halves, half=False)
        self.model.compute_in(None).eval()
        return self.state.last

    def clean(self) -> None:
        """Remove the checkpoints: the result has been written."""
        if self.ranks.main:
            checkpoint.remove(self.folder)

    def _loop(self, watchdog: Watchdog) -> None:
        saved = time.monotonic()
        batches = iter(self.loader)
        while self.step < self.config.steps:
            watchdog.beat(self.step + 1, "data")
            with self.monitor.waiting():
                batch = self._tensors(next(batches))
            watchdog.beat(self.step + 1, "step")
            metrics = self._step(batch)
            if metrics is None:
                continue
            self.monitor.step(metrics, int(metrics.pop("step_tokens")), metrics.pop("flops"))
            with self.monitor.aside():
                self._look_if_due()
            saved = self._save_if_due(saved)

    def _step(self, batch: Batch) -> dict[str, float] | None:
        """One optimiser step on the batch of this rank; metrics averaged over the global batch.

        None if the batch was passed over because of its loss.
        """
        self.fit(self.gradients, batch)
        batch = self._prepared(batch)
        if self.adapter is not None:
            self.adapter.before_step(self.step)
        weight, total = self.gradients.compute(batch, self.step + 1)
        if self.adapter is not None:
            self.adapter.after_backward(1 / self.ranks.count)
        self.state.zeros.hide()
        norm = self.gradients.reduce(self.config.clip)
        averages = {name: (self.ranks.sum(value) / weight).item() for name, value in total.items()}
        verdict = self.state.guard.judge(averages["loss"], norm)
        if verdict != "take":
            self.model.zero_grad(set_to_none=True)
            self._refuse(verdict, averages["loss"], norm)
            return None
        factor = schedule.factor(self.step, self.config)
        if norm:  # where nothing is to be learned, momentum and a scaled step would still move the weights
            self.state.optimiser.step(factor)
        self.state.zeros.hold(self.step + 1, self.state.average)
        experts = expert_metrics(self.model)
        if self.adapter is not None:
            self.adapter.after_step(self.step)
        else:
            self.model.update_balance(self.config.balance_speed)
        self.model.zero_grad(set_to_none=True)
        self.state.step += 1
        if self.rounding is not None:
            self.rounding.begin(self.step)
        if self.state.average is not None:
            self.state.average.update(self.model, self.step)
        mine, flops = batch_work(self.model.config, batch)
        tokens = mine * self.ranks.count
        self.state.tokens += tokens
        rates = {"lr": self.config.learning_rate * factor, "grad_norm": norm}
        rates |= experts | self.state.zeros.metrics()
        if self.gradients.compiler is not None:
            rates |= self.gradients.compiler.metrics()
        rates |= self.loader.report(averages | rates)
        return averages | rates | {"step_tokens": tokens, "flops": flops}

    def _prepared(self, batch: Batch) -> Batch:
        """The batch with what the objective has to know about all of it."""
        if not isinstance(self.objective, Prepares):
            return batch
        self.model.eval()
        with torch.no_grad():
            batch = self.objective.prepare(self.model, batch)
        self.model.train()
        return batch

    def _passes(self, count: int) -> Iterator[None]:
        """Gradients of the first batches, for an adapter that chooses by them what to train."""
        return gradient_passes(self.gradients, self.loader, self._tensors, self.ranks, count)

    def _tensors(self, batch: dict[str, np.ndarray]) -> Batch:
        cuda = self.model.device.type == "cuda"
        host = {name: torch.from_numpy(array) for name, array in batch.items()}
        # From pinned memory the copy goes on while the CPU prepares the step.
        return {
            name: (tensor.pin_memory() if cuda else tensor).to(self.model.device, non_blocking=cuda)
            for name, tensor in host.items()
        }

    def _refuse(self, verdict: Verdict, loss: float, norm: float) -> None:
        """Pass the batch over, go back, or stop: the weights have not moved, nothing is lost."""
        self.state.skipped += 1
        where = f"{self.title}, step {self.step + 1}"
        seen = tr(f"loss {loss:.4g}, gradient norm {norm:.4g}", f"损失 {loss:.4g}，梯度范数 {norm:.4g}")
        if verdict == "skip":
            told = tr(f"{where}: {seen}; this batch is passed over.", f"{where}：{seen}；跳过这一批。")
            self.monitor.event("skip", told)
            return
        self.state.writer.wait()
        self.ranks.barrier()
        found = checkpoint.read_last(self.folder)
        if verdict == "back" and found is not None:
            self.state.restore(found, guard=False)
            if self.rounding is not None:
                self.rounding.begin(self.step)
            self.monitor.forget_after(self.step)
            self.state.save()
            told = tr(
                f"{where}: {seen}; back to the weights of step {self.step}, on with new data.",
                f"{where}：{seen}；回到第 {self.step} 步的权重，继续使用新数据。",
            )
            self.monitor.event("rollback", told)
            return
        guard = self.state.guard
        returned, guard.returned = guard.returned, 0  # the same command may try again
        self.state.save()
        self.state.writer.wait()
        raise RunFailed(
            tr("The loss or its gradient is not finite, or far above all before.", "损失或梯度非有限，或远高于以往。"),
            found=f"{seen}; " + tr(f"returns to a checkpoint: {returned}", f"回退到检查点的次数：{returned}"),
            where=where,
            fix=tr(
                "The weights before this step are kept. Lower learning_rate, use dtype=fp32, or look at the data.",
                "此步之前的权重已保留。请降低 learning_rate、使用 dtype=fp32，或检查数据。",
            ),
        )

    def _look_if_due(self) -> None:
        """Score held-out data and write samples, when it is time."""
        last = self.step == self.config.steps
        score, sample = (
            function is not None and (last or bool(every and self.step % every == 0))
            for function, every in ((self.evaluate, self.config.eval_every), (self.sample, self.config.samples_every))
        )
        if not (score or sample):
            return
        self.model.eval()
        average = self.state.average
        with torch.no_grad(), average.in_place(self.model) if average else nullcontext():
            if self.rounding is not None and average:
                self.rounding.follow()
            if score and self.evaluate is not None:
                scores = self.evaluate(self.model)
                self._keep_if_best(scores)
                self.monitor.record(scores)
            if sample and self.sample is not None:
                self.monitor.samples(self.sample(self.model))
        if self.rounding is not None and average:
            self.rounding.follow()
        self.model.train()

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
        better = self.state.best is None or scores[name] < self.state.best
        # One rank decides: a difference in the last digit, and some would wait for pieces that others do not write.
        if self.ranks.any(self.ranks.main and better)[0]:
            self.state.save_best(scores[name])

    def _save_if_due(self, saved: float) -> float:
        """Write a checkpoint when steps or seconds say so, or a signal came; returns the time of the last one."""
        self.state.writer.check()
        done = self.step == self.config.steps
        by_step = self.config.checkpoint_every and self.step % self.config.checkpoint_every == 0
        by_time = self.config.checkpoint_every_s and time.monotonic() - saved >= self.config.checkpoint_every_s
        # Clocks and signals differ between ranks: one decides for all.
        self.stop.asked, by_time = self.ranks.any(self.stop.asked, bool(by_time))
        if not (done or by_step or by_time or self.stop.asked):
            return saved
        self.state.save()
        if self.stop.asked and not done:
            self.state.writer.wait()
            self.ranks.barrier()  # whoever leaves early makes a launcher stop those that still write
            raise Interrupted(
                tr(
                    f"Stopped after step {self.step}; everything is saved.",
                    f"在第 {self.step} 步之后停止；进度已保存。",
                ),
                fix=tr("Run the same command again to go on.", "重新运行同一命令即可继续。"),
            )
        return time.monotonic()


def _lost_connection(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, distributed.DistError) or any(
        word in text for word in ("connection closed", "connection reset", "connection refused", "timed out", "gloo")
    )
