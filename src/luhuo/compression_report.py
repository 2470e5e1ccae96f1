"""`luhuo compress-report`: tries ways to compress a model within a time budget, and says which one to take.

Everything that is made is an artifact under OUT: `candidates/NAME` model directories, `measures/NAME` what they lost
and gained. The same command continues; what is finished is never made again. `report.json` and `report.html` are
written anew after every candidate, so that a run that is cut off leaves what it knows.
"""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luhuo.compress.report.candidates import ROOM, Candidate, Step, chosen, discover
from luhuo.compress.report.costs import Costs
from luhuo.compress.report.limits import Limit, parse_limits
from luhuo.compress.report.outcome import Outcome, Reason, hopeless, impossible
from luhuo.compress.report.subject import Subject, open_subject
from luhuo.core.artifact import MANIFEST, Done, current_key, is_current, produce
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import clock, say
from luhuo.core.stage import Stage
from luhuo.report.compression.collect import SPEED_FILE, figures_of
from luhuo.report.compression.conclude import conclude
from luhuo.stages import STAGES, configured, stage_class
from luhuo.train.scaling.budget import parse_budget

MEASURE, ORIGINAL = "compression-measure", "original"
DEFAULT_LIMIT = "loss<1%"


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
    _check_measured(limits, request)
    seconds = _seconds(request.budget)
    found = {name: stage_class(name) for name, entry in STAGES.items() if entry.target.startswith(ROOM)}
    subject = open_subject(request.model, request.tokens)
    candidates = chosen(discover(found, subject.sizes, tied=subject.tied), request.methods)
    subject.check_memory()
    subject.check_disk(request.out, candidates)
    return Search(request, limits, seconds, candidates, subject).run()


def _check_measured(limits: Sequence[Limit], request: Request) -> None:
    """Raise `LuhuoError` for a limit on what would not be measured."""
    for limit in limits:
        timed = limit.measure in ("memory", "decode", "prefill") and request.turns == 0
        if timed or (limit.measure == "accuracy" and not request.tasks):
            raise LuhuoError(
                tr(
                    f"There is a limit on {limit.measure}, which would not be measured.",
                    f"限制了 {limit.measure}，但不会测量它。",
                ),
                where="--limit",
                fix="--turns 5"
                if timed
                else tr("--tasks NAME --task-data NAME=DIR", "--tasks 名称 --task-data 名称=目录"),
            )


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
        base = self._measure(ORIGINAL, str(self.subject.path))
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
            except (LuhuoError, RuntimeError, MemoryError) as error:  # the latter two: mostly too little memory
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

    def _reason(self, outcome: Outcome) -> Reason | None:
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
        allowed = next((limit.value for limit in self.limits if limit.measure == "loss"), None)
        return impossible(candidate, self.outcomes) or hopeless(candidate, self.outcomes, allowed)

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
        if step.corrects:
            values |= {"model": str(self.subject.path), "quantised": model}
        given = {"sequences": self.request.sequences, "length": self.length}
        values |= {name: value for name, value in given.items() if name in cls.model_fields}
        if not step.reads:
            return configured(step.stage, values)
        try:
            return configured(step.stage, values | {"data": self.calibration})
        except LuhuoError:  # a stage that takes several texts
            return configured(step.stage, values | {"data": [self.calibration]})

    def _measure(self, name: str, model: str) -> Done:
        return produce(MEASURE, self._measuring(model), self.out / "measures" / name)

    def _measuring(self, model: str) -> Stage:
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
            "memory": request.turns > 0,
            "seed": request.seed,
            "device": request.device,
        }
        return configured(MEASURE, values)

    def _finished(self, candidate: Candidate) -> bool:
        """Whether a candidate is made and measured already, by the same settings: then it costs no time."""
        model = str(self.subject.path)
        for count, step in enumerate(candidate.steps, 1):
            folder = self.out / "candidates" / Candidate(candidate.steps[:count]).name
            if not (folder / MANIFEST).is_file():
                return False
            if not is_current(folder, current_key(step.stage, self._stage(step, model))):
                return False
            model = str(folder)
        measure = self._measuring(model)
        return is_current(self.out / "measures" / candidate.name, current_key(MEASURE, measure))

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


def _command(step: Step, stage: Stage, folder: Path) -> str:
    """The command that makes the same by hand."""
    values = stage.model_dump(mode="json")
    names = [
        "model",
        *(["quantised"] if step.corrects else []),
        *step.values,
        *(["data"] if step.reads else []),
        "seed",
    ]
    names += [name for name in ("sequences", "length") if name in values and step.reads]
    texts = [json.dumps(values[name]) if isinstance(values[name], list) else values[name] for name in names]
    pairs = [f"{name}={text}" for name, text in zip(names, texts, strict=True)]
    return shlex.join(["luhuo", step.stage, *pairs, "--out", str(folder)])
