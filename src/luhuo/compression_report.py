"""`luhuo compress-report`: tries ways to compress a model within a time budget, and says which one to take.

Everything that is made is an artifact under OUT: `candidates/NAME` model directories, `measures/NAME` what they lost
and gained. The same command continues; what is finished is never made again. `report.json` and `report.html` are
written anew after every candidate, so that a run that is cut off leaves what it knows.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luhuo.compress.report.candidates import ROOM, Candidate, Step, chosen, discover
from luhuo.compress.report.costs import Costs
from luhuo.compress.report.limits import Limit, parse_limits
from luhuo.compress.report.subject import Subject, open_subject
from luhuo.core.artifact import Done, produce
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import clock, say
from luhuo.core.stage import Stage
from luhuo.report.compression.collect import SPEED_FILE, figures_of
from luhuo.report.compression.outcome import Outcome, conclude
from luhuo.stages import STAGES, configured, stage_class
from luhuo.train.scaling.budget import parse_budget

DEFAULT_LIMIT = "loss<1%"
HOPELESS = 5.0
"""Times the allowed loss: what more bits have lost so much of is not tried with fewer."""
MOST_LOSS = 1.0
"""The same where nothing is allowed: twice the perplexity."""


@dataclass(frozen=True)
class Request:
    """What a report is asked for."""

    model: str
    data: str
    out: Path
    heldout: str | None = None
    budget: str | None = None
    limit: str | None = None
    methods: Sequence[str] = ()
    tasks: Sequence[str] = ()
    task_data: dict[str, str] = field(default_factory=dict)
    task_items: int | None = None
    tokens: int = 16_384
    sequences: int = 128
    length: int = 512
    turns: int = 5
    seed: int = 0
    device: str = "auto"


def compress_report(request: Request) -> Path:
    """Make, measure, and write the report; the page's path. Raises `LuhuoError` before anything is made where the
    request, the model, the text, the memory or the disk will not do."""
    limits = parse_limits(request.limit or DEFAULT_LIMIT)
    seconds = _seconds(request.budget)
    found = {name: stage_class(name) for name, entry in STAGES.items() if entry.target.startswith(ROOM)}
    subject = open_subject(request.model, request.tokens)
    candidates = chosen(discover(found, subject.sizes), request.methods)
    subject.check_memory()
    subject.check_disk(request.out, candidates)
    return Search(request, limits, seconds, candidates, subject).run()


def _seconds(budget: str | None) -> float | None:
    if budget is None:
        return None
    found = parse_budget(budget).seconds
    if found is None:
        raise LuhuoError(
            tr("The budget of a report is a time.", "报告的预算是时间。"),
            expected="90s, 30m, 2h",
            found=budget,
            where="--budget",
        )
    return found


class Search:
    """Goes through the candidates in order."""

    def __init__(
        self,
        request: Request,
        limits: list[Limit],
        budget: float | None,
        candidates: Sequence[Candidate],
        subject: Subject,
    ) -> None:
        self.request, self.limits, self.budget, self.subject = request, limits, budget, subject
        self.out = request.out
        self.started = time.monotonic()
        self.outcomes = [Outcome(one) for one in candidates]
        self.length = min(request.length, subject.context - 1)
        self.costs = Costs(0.0)

    def run(self) -> Path:
        """All candidates, then the page's path."""
        self.calibration, self.heldout = self._texts()
        base = self._measure("original", str(self.subject.path))
        self.base = base.path
        timed = json.loads((base.path / SPEED_FILE).read_text(encoding="utf-8"))
        rate = timed["read_tokens"] / timed["read_seconds"]
        self.costs = Costs(self.request.sequences * self.length / rate)
        for number, outcome in enumerate(self.outcomes):
            reason = None if self._finished(outcome.candidate) else self._reason(outcome)
            if reason is not None:
                outcome.skip(*reason)
                continue
            expected = self.costs.of(outcome.candidate, self._made())
            say(
                f"{number + 1}/{len(self.outcomes)} {outcome.candidate.label}: "
                + tr(f"about {clock(expected)}", f"约 {clock(expected)}")
            )
            try:
                self._try(outcome)
            except LuhuoError as error:
                outcome.fail(error)
                say(tr(f"{outcome.candidate.label} failed: {error}", f"{outcome.candidate.label} 失败：{error}"))
            self._write()
        return self._write()

    def _texts(self) -> tuple[str, str]:
        """What methods may look at, and what is measured on."""
        if self.request.heldout is not None:
            return self.request.data, self.request.heldout
        root = Path(self.request.data)
        if any((root / "documents").glob("test.*")) or (root / "test" / "header.json").is_file():
            return self.request.data, self.request.data
        from luhuo.compress.report.division import CALIBRATION, HELD_OUT, TextDivision

        division = TextDivision.parse({"data": self.request.data, "model": str(self.subject.path)})
        done = produce("text-division", division, self.out / "text")
        return str(done.path / CALIBRATION), str(done.path / HELD_OUT)

    def _reason(self, outcome: Outcome) -> tuple[str, str] | None:
        """Why a candidate is not tried, in English and Chinese; None if it is."""
        candidate = outcome.candidate
        if self.budget is not None:
            left = self.budget - (time.monotonic() - self.started)
            expected = self.costs.of(candidate, self._made())
            if expected > left:
                return (
                    f"It would take about {clock(expected)}, and {clock(max(0, left))} of the budget are left.",
                    f"预计需要 {clock(expected)}，而预算只剩 {clock(max(0, left))}。",
                )
        needed, free = self.subject.disk_of(candidate), shutil.disk_usage(self.out).free
        if needed > free:
            return (
                f"It needs about {needed / 1e9:.2f} GB of disk, and {free / 1e9:.2f} GB are free.",
                f"约需 {needed / 1e9:.2f} GB 磁盘，仅剩 {free / 1e9:.2f} GB。",
            )
        return self._impossible(candidate) or self._hopeless(candidate)

    def _impossible(self, candidate: Candidate) -> tuple[str, str] | None:
        """Whether the same stages one after the other have failed already."""
        stages = [step.stage for step in candidate.steps]
        for other in self.outcomes if len(stages) > 1 else ():
            if other.status == "failed" and [step.stage for step in other.candidate.steps] == stages:
                shown = other.reason["en"].splitlines()[0], other.reason["zh"].splitlines()[0]
                return f"{other.candidate.label} failed: {shown[0]}", f"{other.candidate.label} 失败：{shown[1]}"
        return None

    def _hopeless(self, candidate: Candidate) -> tuple[str, str] | None:
        """Whether more bits of the same, or the first step alone, have lost far too much already."""
        allowed = next((limit.value for limit in self.limits if limit.measure == "loss"), None)
        most = MOST_LOSS if allowed is None else max(HOPELESS * allowed, 0.02)
        for other in self.outcomes:
            loss = (other.figures or {}).get("loss")
            if other.status != "done" or (loss is not None and loss["low"] <= most):
                continue
            shown = tr("everything", "全部") if loss is None else f"{100 * loss['mean']:.3g}%"
            if other.candidate.steps == candidate.steps[:-1]:
                return (
                    f"{other.candidate.label} alone raises perplexity by {shown}.",
                    f"仅 {other.candidate.label} 已使困惑度上升 {shown}。",
                )
            if _more_bits(other.candidate, candidate):
                return (
                    f"{other.candidate.label} has raised perplexity by {shown}; fewer bits lose more.",
                    f"{other.candidate.label} 已使困惑度上升 {shown}，位数更少只会更差。",
                )
        return None

    def _try(self, outcome: Outcome) -> None:
        model, making = str(self.subject.path), 0.0
        for count, step in enumerate(outcome.candidate.steps, 1):
            name = Candidate(outcome.candidate.steps[:count]).name
            stage = self._stage(step, model)
            outcome.commands.append(_command(step, stage, self.out / "candidates" / name))
            done = produce(step.stage, stage, self.out / "candidates" / name)
            self.costs.add(step, done.manifest["duration_s"])
            making += done.manifest["duration_s"]
            model = str(done.path)
        measured = self._measure(outcome.candidate.name, model)
        self.costs.measured.append(measured.manifest["duration_s"])
        outcome.done(
            figures_of(measured.path, self.base, self.request.seed), model, making, measured.manifest["duration_s"]
        )

    def _stage(self, step: Step, model: str) -> Stage:
        cls = stage_class(step.stage)
        values: dict[str, Any] = {"model": model, **step.values, "seed": self.request.seed}
        given = {"sequences": self.request.sequences, "length": self.length}
        values |= {name: value for name, value in given.items() if name in cls.model_fields}
        if not step.reads:
            return configured(step.stage, values)
        try:
            return configured(step.stage, values | {"data": self.calibration})
        except LuhuoError:  # a stage that takes several texts
            return configured(step.stage, values | {"data": [self.calibration]})

    def _measure(self, name: str, model: str) -> Done:
        request = self.request
        ask = {} if request.task_items is None else {"limit": request.task_items}
        values = {
            "model": model,
            "original": str(self.subject.path),
            "text": self.heldout,
            "tokens": request.tokens,
            "length": self.length,
            "tasks": list(request.tasks),
            "data": request.task_data,
            "ask": ask,
            "turns": request.turns,
            "seed": request.seed,
            "device": request.device,
        }
        return produce("compression-measure", configured("compression-measure", values), self.out / "measures" / name)

    def _finished(self, candidate: Candidate) -> bool:
        """Whether a candidate was made and measured before, as far as its folders tell: then it costs no time."""
        places = (self.out / "candidates" / candidate.name, self.out / "measures" / candidate.name)
        return all((place / "manifest.json").is_file() for place in places)

    def _made(self) -> set[tuple[Step, ...]]:
        return {one.candidate.steps for one in self.outcomes if one.status == "done"}

    def _write(self) -> Path:
        """report.json and report.html as of now."""
        return conclude(
            self.out,
            self.outcomes,
            self.limits,
            figures_of(self.base, self.base, self.request.seed),
            {
                "model": self.request.model,
                "data": self.request.data,
                "heldout": self.request.heldout,
                "budget": self.budget,
                "limit": self.request.limit or DEFAULT_LIMIT,
                "settings": {
                    "tokens": self.request.tokens,
                    "length": self.length,
                    "sequences": self.request.sequences,
                    "turns": self.request.turns,
                    "seed": self.request.seed,
                },
            },
            self.base,
        )


def _more_bits(other: Candidate, candidate: Candidate) -> bool:
    """Whether `other` is the same but for more bits."""
    if len(other.steps) != 1 or len(candidate.steps) != 1 or other.steps[0].stage != candidate.steps[0].stage:
        return False
    a, b = dict(other.steps[0].values), dict(candidate.steps[0].values)
    bits = a.pop("bits", None), b.pop("bits", None)
    return a == b and None not in bits and bits[0] > bits[1]  # type: ignore[operator]


def _command(step: Step, stage: Stage, folder: Path) -> str:
    """The command that makes the same by hand."""
    values = stage.model_dump(mode="json")
    names = ["model", *step.values, *(["data"] if step.reads else []), "seed"]
    names += [name for name in ("sequences", "length") if name in values and step.reads]
    pairs = [
        f"{name}={json.dumps(values[name]) if isinstance(values[name], list) else values[name]}" for name in names
    ]
    return " ".join(["luhuo", step.stage, *pairs, "--out", str(folder)])
