"""A training stage on a machine: what it takes, whether it fits, and which changes are known to make it fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from luhuo.core.language import tr
from luhuo.model.config import ModelConfig
from luhuo.model.count import active_parameters, flops_per_token, parameters
from luhuo.train.plan.machine import Machine
from luhuo.train.plan.memory import Memory, Run, memory

AGAIN = {"none": 1.0, "selective": 1.12, "full": 4 / 3}
"""Time of a step relative to one that keeps everything: the forward pass, a third of it, is done twice with full."""

SMALLER = (0.75, 0.5, 0.35, 0.25, 0.18, 0.12, 0.06, 0.03, 0.01)
"""Sizes tried when nothing else helps."""


@dataclass(frozen=True)
class Training:
    """What is to be trained."""

    model: ModelConfig
    rows: int
    """Of a step, over all processes."""
    length: int
    steps: int
    """0: not known."""
    micro_batch: int = 0
    """Rows of one forward pass of one process; 0: all of its share."""
    optimiser: str = "muon"
    recompute: str = "none"
    dtype: str = "auto"
    averaged: bool = False
    background: bool = True
    shard: int = 1

    def run(self, machine: Machine) -> Run:
        """One process of it on a machine."""
        rows = max(1, -(-self.rows // machine.count))
        return Run(
            self.model,
            min(rows, self.micro_batch or rows),
            self.length,
            self.optimiser,
            self.recompute,
            half=self.dtype != "fp32",
            averaged=self.averaged,
            background=self.background,
            pieces=self.shard or machine.count,
            kind=machine.kind,
            split=0 < self.micro_batch < rows,
        )


@dataclass(frozen=True)
class Change:
    """Settings with which a stage fits, and what it then takes."""

    settings: dict[str, Any]
    peak: float
    seconds: float | None


@dataclass(frozen=True)
class Plan:
    """A training stage on a machine."""

    parameters: int
    active: int
    memory: Memory
    seconds: float | None
    tokens: int
    """0: not known."""
    disk: float
    fits: bool
    changes: tuple[Change, ...]


def plan(training: Training, machine: Machine, *, resize: bool = False) -> Plan:
    """Plan a stage; `resize`: the size may be changed (it is not that of a given model)."""
    need = memory(training.run(machine))
    fits = need.peak <= machine.memory
    total = sum(parameters(training.model).values())
    return Plan(
        total,
        active_parameters(training.model),
        need,
        seconds(training, machine),
        training.rows * training.length * training.steps,
        disk(training, need, machine),
        fits,
        () if fits else tuple(_changes(training, machine, resize)),
    )


def seconds(training: Training, machine: Machine) -> float | None:
    """Time of all steps at the machine's assumed utilisation; None where their number is not known."""
    if not training.steps:
        return None
    flops = flops_per_token(training.model, training.length) * AGAIN[training.recompute]
    return flops * training.rows * training.length * training.steps / machine.speed


def disk(training: Training, need: Memory, machine: Machine) -> float:
    """The finished weights, and three checkpoints (one being written) of weights, averages and optimiser."""
    pieces = training.shard or machine.count
    one = (need.weights + need.optimiser + need.average) * pieces
    return 3 * one + need.weights * pieces


def largest_micro_batch(training: Training, machine: Machine) -> int:
    """Most rows of a forward pass that fit, halving from all of a process's share; 0 if not even one does."""
    rows = max(1, -(-training.rows // machine.count))
    while rows:
        if memory(replace(training, micro_batch=rows).run(machine)).peak <= machine.memory:
            return rows
        rows = -(-rows // 2) if rows > 1 else 0
    return 0


def _changes(training: Training, machine: Machine, resize: bool) -> Iterator[Change]:
    """The mildest settings of each kind with which it fits, in the order of what they cost."""
    found = 0
    for extra in _extras(training, machine):
        changed = replace(training, **extra)
        rows = largest_micro_batch(changed, machine)
        if rows:
            share = -(-training.rows // machine.count)
            settings = {**extra, **({} if rows >= share else {"micro_batch": rows})}
            final = replace(changed, micro_batch=rows)
            yield Change(settings, memory(final.run(machine)).peak, seconds(final, machine))
            found += 1
        if found == 3:
            return
    if found or not resize:
        return
    yield from _smaller(training, machine)


def _extras(training: Training, machine: Machine) -> Iterator[dict[str, Any]]:
    """Settings beside a smaller micro-batch, from what costs nothing to what costs most."""
    modes = ["none", "selective", "full"]
    stronger = modes[modes.index(training.recompute) + 1 :]
    eight = {"adamw": "adamw8", "muon": "adamw8", "lion": "lion8"}.get(training.optimiser)
    background = {"background": False} if training.background and machine.kind == "cpu" else {}
    yield {}
    if background:
        yield background
    for mode in stronger:
        yield {"recompute": mode}
    if machine.count > 1 and training.shard == 1:
        yield {"shard": 0}
        yield {"shard": 0, "recompute": "full"}
    if eight:
        yield {"optimiser": eight, "recompute": "full", **background}


def _smaller(training: Training, machine: Machine) -> Iterator[Change]:
    """A smaller model of the same vocabulary, where nothing else is enough."""
    from luhuo.train.sizes import derive

    total = sum(parameters(training.model).values())
    for share in SMALLER:
        model = derive(total * share, training.model.vocab_size).model
        smaller = replace(training, model=model, recompute="full", background=False)
        rows = largest_micro_batch(smaller, machine)
        if rows:
            final = replace(smaller, micro_batch=rows)
            size = sum(parameters(model).values())
            settings = {"size": f"{size / 1e6:.0f}m", "recompute": "full", "background": False, "micro_batch": rows}
            yield Change(settings, memory(final.run(machine)).peak, seconds(final, machine))
            return


def assumptions(machine: Machine) -> str:
    """What the figures of a plan rest on."""
    percent, rate = f"{machine.utilisation:.0%}", machine.rate / 1e9
    free = f"{machine.memory / 1e9:.1f} GB"
    if machine.measured:
        return tr(
            f"{machine.name}: {free} free, {rate:,.0f} GFLOP/s measured now, of which training is assumed to reach "
            f"{percent}.",
            f"{machine.name}：可用内存 {free}，此刻实测 {rate:,.0f} GFLOP/s，假定训练达到其 {percent}。",
        )
    return tr(
        f"{machine.count} x {machine.name}: {free} usable and {rate / 1000:,.0f} TFLOP/s each as published, of which "
        f"training is assumed to reach {percent}. Nothing was measured.",
        f"{machine.count} x {machine.name}：每张可用 {free}、标称 {rate / 1000:,.0f} TFLOP/s，"
        f"假定训练达到其 {percent}。均未实测。",
    )
