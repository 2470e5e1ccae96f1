"""Rollouts as a source of batches for the trainer: sample, score, value, then hand out minibatches.

A *round* is one turn of this: `prompts` groups of samples, cut into `minibatches`, gone through `epochs` times. The
samples of a prompt stay together, on one process and in one minibatch. Each process samples its share of the prompts;
which other prompts are there, and which process draws a sample, changes nothing in it.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from luhuo.align.health import Health
from luhuo.align.prompts import PromptOrder
from luhuo.align.rollout import Rollout, Sample
from luhuo.align.rollout_buffer import Arrays, Buffer
from luhuo.align.rollout_rows import Judged, Scored, lay_out
from luhuo.align.rollout_statistics import Group, Outcome, means, summary
from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.core.seeds import derive_seed
from luhuo.train.objective import Batch, CausalLM
from luhuo.train.ranks import Ranks

BARREN = 3
"""Rounds in a row without a single target after which a run gives up."""


@dataclass(frozen=True)
class Judgement:
    """What samples were worth."""

    scores: Sequence[float | None]
    """One a sample; None: it could not be scored, which is no score of 0."""
    parts: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Numbers whose means are told: what the scores are made of."""


Judge = Callable[[Sequence[Sample]], Judgement]


class Valuation(Protocol):
    """Turns scores into what an objective reads: once a round, on all rows of this process.

    Statistics over more than a group are those of all processes (`Ranks.sum`), who call together.
    """

    def __call__(self, batch: Batch, judged: Judged) -> tuple[Batch, dict[str, float]]:
        """The batch with constants added (first dimension: rows), and what to tell of the round."""
        ...

    def state(self) -> dict[str, Any]:
        """JSON value to continue from."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        ...


@dataclass(frozen=True)
class Plan:
    """The size of a round, over all processes."""

    prompts: int = 32
    minibatches: int = 1
    epochs: int = 1
    attempts: int = 1
    """More than 1: groups whose scores are all equal teach nothing and are replaced by fresh ones, in so many attempts
    at most (dynamic sampling; Yu et al. 2025, "DAPO", section 3.2)."""

    @property
    def updates(self) -> int:
        """Optimiser steps a round."""
        return self.minibatches * self.epochs


class RolloutLoader:
    """A loader for the `Trainer`, to be used with `prefetch` 0: a round depends on the weights of its moment.

    `folder` is that of the checkpoints: the round in progress is kept in it, since its old log-probabilities and
    advantages belong to weights that are gone. `device` is the model's. `share`: the answers to a prompt share one
    copy of it.
    """

    def __init__(
        self,
        rollout: Rollout,
        prompts: PromptOrder,
        judge: Judge,
        value: Valuation,
        plan: Plan,
        *,
        seed: int,
        folder: Path,
        device: torch.device,
        pad_id: int,
        share: bool = False,
    ) -> None:
        self.rollout, self.prompts, self.judge, self.value, self.plan = rollout, prompts, judge, value, plan
        self.seed, self.device, self.pad_id, self.share = seed, device, pad_id, share
        self.ranks = Ranks()
        _check(plan, self.ranks.count)
        self.buffer = Buffer(folder, self.ranks.rank, plan.updates)
        self.health = Health()
        self.samples: list[Sample] = []
        """This process's samples of the round; empty after a resume, until the next round."""
        self._round, self._place, self._served = -1, 0, 0
        self._order: list[int] = []
        """Minibatches of the round in the order in which they are handed out."""
        self._parts: list[Arrays] = []
        self._told: dict[str, float] = {}
        self._handed = 0.0

    def __iter__(self) -> Iterator[Arrays]:
        while True:
            if self._served == len(self._order):
                self._begin()
            batch = self._parts[self._order[self._served]]
            self._served += 1
            self._handed = time.monotonic()
            yield batch

    def state(self) -> dict[str, Any]:
        """Where we are: the round, the place among the prompts, which minibatches are still to come."""
        ahead = self._order[self._served :]
        place = {"round": self._round, "place": self._place, "ahead": ahead, "processes": self.ranks.count}
        return place | {"value": self.value.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a place given by `state`. Within a round its samples are read back; where that cannot be, because
        the number of processes changed or a file is damaged, the rest of the round is left out, and it is said."""
        self._round, self._place = state["round"], state["place"]
        self._order, self._served = list(state["ahead"]), 0
        self.value.restore(state["value"])
        self.samples, self._parts, self._told = [], [], {}
        if not self._order:
            return
        found = self.buffer.read(self._round) if state["processes"] == self.ranks.count else None
        if self.ranks.any(found is None)[0] or found is None:
            self._order = []
            text = tr(
                f"The samples of round {self._round + 1} are gone; its remaining updates are left out.",
                f"第 {self._round + 1} 轮的样本已不在；略过该轮剩余的更新。",
            )
            say(text)
        else:
            self._parts = found

    def report(self, metrics: dict[str, float]) -> dict[str, float]:
        """What to tell beside a step's `metrics`: the round's statistics with its first step, and the seconds that the
        update took. Says in words what has left its healthy range."""
        told = self._told | {"time.update": time.monotonic() - self._handed}
        self._told = {}
        if self.ranks.main:
            self.health.look(metrics | told)
        return told

    def _begin(self) -> None:
        """Sample, score and value rounds until one has targets."""
        for _ in range(BARREN):
            self._round += 1
            self._parts, self._told = self._make()
            usable = self._with_targets()
            self._served, self._order = 0, []
            for epoch in range(self.plan.epochs):
                random = np.random.default_rng(derive_seed(self.seed, "minibatches", self._round, epoch))
                self._order += [int(i) for i in (random.permutation(usable) if epoch else usable)]
            if self._order:
                break
        else:
            raise RunFailed(
                tr(
                    f"{BARREN} rounds in a row had no token to learn from.",
                    f"连续 {BARREN} 轮没有任何可学习的词元。",
                ),
                found=", ".join(f"{name} {self._told[name]:.3g}" for name in ("truncated", "unscored", "length")),
                where=tr(f"round {self._round + 1}", f"第 {self._round + 1} 轮"),
                fix=tr(
                    "Answers that are cut off are masked: raise max_tokens. Unscored ones too: look at the rewards.",
                    "被截断的回答会被屏蔽：请增大 max_tokens。无法评分的亦然：请检查奖励。",
                ),
            )
        if self.plan.updates > 1:
            self.buffer.write(self._round, self._parts)

    def _make(self) -> tuple[list[Arrays], dict[str, float]]:
        """The minibatches of a new round, as this process holds them, and what to tell of it."""
        seconds: dict[str, float] = {}
        groups, told = self._collect(seconds)
        share = -(-len(groups) // self.plan.minibatches)
        mine = []
        for i in range(self.plan.minibatches):
            part = [
                (group.number, outcome) for group in groups[i * share : (i + 1) * share] for outcome in group.outcomes
            ]
            mine.append([Scored(o.sample, o.score, number) for number, o in part if o.sample is not None])
        self.samples = [one.sample for part in mine for one in part]
        batch, judged, rows = lay_out(mine, self.pad_id, self.device, share=self.share)
        with _timed(seconds, "log_probs"):
            batch, more = self.value(batch, judged)
            arrays = {name: tensor.cpu().numpy() for name, tensor in batch.items()}
        edges = np.cumsum([0, *rows])
        parts = [{name: a[start:end] for name, a in arrays.items()} for start, end in itertools.pairwise(edges)]
        return parts, told | more | seconds

    def _with_targets(self) -> list[int]:
        """The minibatches that have a target in any process: what was cut off or not scored may be masked."""
        counts = [
            CausalLM.targets({name: torch.from_numpy(part[name]) for name in ("ids", "segments", "mask")}).sum()
            for part in self._parts
        ]
        total = self.ranks.sum(torch.stack(counts).double().to(self.ranks.mesh.kind))
        return [i for i, count in enumerate(total.tolist()) if count]

    def _collect(self, seconds: dict[str, float]) -> tuple[list[Group], dict[str, float]]:
        """The groups of a round, and the statistics of all that were drawn for it."""
        kept: list[Group] = []
        spare: list[Group] = []
        sums: list[dict[str, Sequence[float]]] = []
        for _ in range(self.plan.attempts):
            fresh, parts = self._sample(self.plan.prompts - len(kept), seconds)
            sums += parts
            for group in fresh:
                (kept if self.plan.attempts == 1 or group.teaches else spare).append(group)
            if len(kept) == self.plan.prompts:
                break
        told = summary([*kept, *spare]) | means(sums)
        told["groups"], told["groups_drawn"] = float(len(kept)), float(len(kept) + len(spare))
        # Every minibatch needs a group; one that teaches nothing does no harm.
        return kept + spare[: max(0, self.plan.minibatches - len(kept))], told

    def _sample(self, count: int, seconds: dict[str, float]) -> tuple[list[Group], list[dict[str, Sequence[float]]]]:
        """New groups, and (sum, number) of the parts of their scores: each process samples and scores its share, and
        all learn the outcomes. The samples themselves stay where they are."""
        places = range(self._place, self._place + count)
        self._place += count
        share = places[self.ranks.rank :: self.ranks.count]
        with _timed(seconds, "generate"):
            drawn = self.rollout.sample({p: self.prompts.at(p) for p in share}, derive_seed(self.seed, "rollout"))
        samples = [sample for group in drawn.values() for sample in group]
        with _timed(seconds, "score"):
            judgement = self.judge(samples)
        rows = [[score, s.length, s.ended] for score, s in zip(judgement.scores, samples, strict=True)]
        parts = {f"reward.{name}": [math.fsum(values), len(values)] for name, values in judgement.parts.items()}
        everything = exchange(self.ranks, {"rows": rows, "parts": parts})
        size, groups = self.rollout.samples, []
        for k, place in enumerate(places):
            owner, number = k % self.ranks.count, k // self.ranks.count
            theirs = everything[owner]["rows"][number * size : (number + 1) * size]
            mine = drawn[place] if place in drawn else [None] * size
            groups.append(
                Group(
                    place,
                    [
                        Outcome(math.nan if score is None else score, length, ended, sample)
                        for (score, length, ended), sample in zip(theirs, mine, strict=True)
                    ],
                )
            )
        return groups, [one["parts"] for one in everything]


def exchange(ranks: Ranks, value: Any) -> list[Any]:
    """What every process gives, a JSON value each, in the order of their shares."""
    if ranks.count == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = torch.zeros(ranks.count, device=ranks.mesh.kind)
    sizes[ranks.rank] = len(text)
    lengths = [round(size) for size in ranks.sum(sizes).tolist()]
    table = torch.zeros(ranks.count, max(lengths), device=ranks.mesh.kind)
    table[ranks.rank, : len(text)] = torch.from_numpy(text.astype(np.float32)).to(table.device)
    found = ranks.sum(table).round().to(torch.uint8).cpu().numpy()
    return [json.loads(row[:length].tobytes()) for row, length in zip(found, lengths, strict=True)]


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    key = f"time.{name}"
    seconds[key] = seconds.get(key, 0.0) + time.monotonic() - start


def _check(plan: Plan, processes: int) -> None:
    if plan.prompts % (plan.minibatches * processes):
        raise LuhuoError(
            tr("The prompts of a round do not divide evenly.", "每轮的提示数不能均分。"),
            expected=tr(
                f"a multiple of minibatches × processes = {plan.minibatches} × {processes}",
                f"minibatches × 进程数 = {plan.minibatches} × {processes} 的倍数",
            ),
            found=plan.prompts,
            where="prompts_per_round",
        )
