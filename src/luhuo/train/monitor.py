"""What a run tells while it trains: `metrics.jsonl`, the progress line, `train.log`, events, and trackers.

Everything that is only looked at lies in `metrics.jsonl`, `train.log` and the folder `watch/`, none of which counts
for the artifact's digest.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from luhuo.core.artifact import Workspace
from luhuo.core.digest import WATCH
from luhuo.core.language import tr
from luhuo.core.progress import Progress, append_line, say
from luhuo.model.decoder import Decoder
from luhuo.train.config import TrainerConfig
from luhuo.train.state import RunState
from luhuo.train.trackers import Trackers

EVENTS = "events.jsonl"
SAMPLES = "samples.jsonl"


class Smoothed:
    """An exponential mean without the pull of its start (Kingma and Ba 2015, section 3)."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._sum = self._weight = 0.0

    def add(self, value: float) -> float:
        """Take in a value; returns the mean."""
        self._sum = self.decay * self._sum + (1 - self.decay) * value
        self._weight = self.decay * self._weight + 1 - self.decay
        return self._sum / self._weight


class Monitor:
    """Tells of one run. Use as a context manager around it; only the first rank (`speaks`) writes.

    `rate` is the measured FLOP/s of all processes together. Time inside `aside` (held-out evaluation, samples) is not
    training time, time inside `waiting` is the loader's.
    """

    def __init__(
        self, title: str, state: RunState, config: TrainerConfig, out: Workspace, rate: float, *, speaks: bool
    ) -> None:
        self.title, self.state, self.config, self.out, self.rate, self.speaks = title, state, config, out, rate, speaks
        self.folder = out.path / WATCH
        self.log = out.path / "train.log"
        self.progress = Progress(title, config.steps, tr("steps", "步"), log=self.log if speaks else None)
        self.trackers = Trackers(config.track if speaks else [], out, title)
        self._loss, self._tokens, self._seconds = Smoothed(0.95), Smoothed(0.9), Smoothed(0.9)
        self._since = self._begin = time.monotonic()
        self._waited = self._aside = 0.0
        self._steps = self._counted = 0
        self._shown = ""

    def __enter__(self) -> Monitor:
        self.forget_after(self.state.step)
        self.trackers.start(self.state.step)
        resumed = self.state.step > 0
        parameters = sum(parameter.numel() for parameter in self.state.model.parameters())
        self.event(
            "resume" if resumed else "start",
            tr(f"Continuing from step {self.state.step}.", f"从第 {self.state.step} 步继续。") if resumed else "",
            steps=self.config.steps,
            parameters=parameters,
            title=self.title,
            device=str(self.state.model.device),
            ranks=self.state.ranks.count,
            matmul_tflops=round(self.rate / 1e12, 3),
        )
        self.progress.start_from(self.state.step)
        self.progress.__enter__()
        self._since = self._begin = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.progress.__exit__(kind, error, trace)
        done = self.state.step == self.config.steps
        text = "" if error is None else f"{type(error).__name__}: {error}".splitlines()[0]
        self.event("finish" if done and error is None else "stop", text, speak=False)
        self.trackers.close(failed=error is not None)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what waits for the loader."""
        start = time.monotonic()
        yield
        self._waited += time.monotonic() - start

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Around what is no training: its time is left out of all rates."""
        start = time.monotonic()
        yield
        self._aside += time.monotonic() - start

    def step(self, metrics: dict[str, float], tokens: int, flops: float) -> None:
        """One optimiser step: its metrics, its tokens over all ranks, and the model's FLOPs a token."""
        self._steps += 1
        self._counted += tokens
        smooth = self._loss.add(metrics["loss"])
        if self.state.step % self.config.log_every == 0 or self.state.step == self.config.steps:
            self.record(metrics | self._rates(flops))
        note = tr("loss {:.3f} (last {:.3f})", "损失 {:.3f}（本步 {:.3f}）").format(smooth, metrics["loss"])
        rate = tr(f", lr {metrics['lr']:.2e}", f"，学习率 {metrics['lr']:.2e}") + self._shown
        self.progress.advance(1, note=note + rate)

    def record(self, values: dict[str, float]) -> None:
        """Write a line of metrics for this step, to the file and to the trackers."""
        self.state.last |= values
        if self.speaks:
            rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
            self.out.metrics.write(step=self.state.step, tokens=self.state.tokens, **rounded)
            self.trackers.log(self.state.step, {"tokens": self.state.tokens, **rounded})

    def samples(self, rows: list[dict[str, Any]]) -> None:
        """Keep what the model wrote at this step."""
        if not self.speaks:
            return
        for row in rows:
            self._append(SAMPLES, {"step": self.state.step, "tokens": self.state.tokens, **row})
        self.trackers.text(self.state.step, "\n\n".join(f"{row['prompt']}→{row['text']}" for row in rows))

    def event(self, kind: str, message: str = "", *, speak: bool = True, **facts: Any) -> None:
        """Something happened that is no number: it is said, logged, and marked in the curve."""
        if message and speak:
            say(message)
        if not self.speaks:
            return
        if message:
            append_line(self.log, message)
        seconds = round(self.state.seconds, 2)
        place = {"step": self.state.step, "tokens": self.state.tokens, "seconds": seconds, "at": round(time.time(), 1)}
        self._append(EVENTS, {"kind": kind, **place, "message": message, **facts})

    def forget_after(self, step: int) -> None:
        """Drop what was told of steps after `step`, which are made again. Events stay: they happened."""
        if not self.speaks:
            return
        self.out.metrics.keep_until(step)
        type(self.out.metrics)(self.folder / SAMPLES).keep_until(step)

    def _rates(self, flops: float) -> dict[str, float]:
        """Rates since the last line."""
        now = time.monotonic()
        seconds = max(1e-9, now - self._since - self._aside)
        self.state.seconds += seconds
        rate = self._counted / seconds
        found = {
            "tokens_per_s": rate,
            "mfu": rate * flops / self.rate,
            "step_ms": 1e3 * seconds / self._steps,
            "data_ms": 1e3 * self._waited / self._steps,
            "seconds": self.state.seconds,
            "skipped": self.state.skipped,
        }
        if (peak := peak_memory(self.state.model.device)) is not None:
            found["memory_mb"] = peak / 2**20
        smooth = self._tokens.add(self._counted) / self._seconds.add(seconds)
        mfu = 100 * smooth * flops / self.rate
        self._shown = tr(f", {smooth:,.0f} tok/s, MFU {mfu:.0f}%", f"，{smooth:,.0f} 词元/秒，MFU {mfu:.0f}%")
        self._since, self._waited, self._aside, self._steps, self._counted = now, 0.0, 0.0, 0, 0
        return found

    def _append(self, name: str, values: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / name).open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(values, ensure_ascii=False) + "\n")


def peak_memory(device: torch.device) -> int | None:
    """Most bytes this process has held so far: of the device's memory, or of the machine's for the CPU.

    None where the system does not tell (Windows, Apple's GPUs).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type != "cpu" or sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def expert_metrics(model: Decoder) -> dict[str, float]:
    """Balance of the experts in this step (of this rank): the busiest one's load and the idlest one's, relative to an
    equal share, the worst layer counts (MaxVio + 1 in Wang et al. 2024). Empty for a model without experts."""
    load = model.expert_load()
    if load is None:
        return {}
    share = load * load.shape[1]
    return {"expert_load.max": share.max().item(), "expert_load.min": share.min().item()}
