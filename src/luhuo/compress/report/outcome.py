"""What became of each candidate, and what that says of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luhuo.compress.report.candidates import Candidate

NOT_REACHED = {"en": "The run ended before.", "zh": "运行在此之前结束。"}
HOPELESS = 5.0
"""Times the allowed loss: what more bits have lost so much of is not tried with fewer."""
LEAST_HOPELESS = 0.02
MOST_LOSS = 1.0
"""The same where no loss is stated: twice the perplexity."""

Reason = tuple[str, str]
"""In English and in Chinese."""


class Outcome:
    """One candidate: "waiting", "done", "skipped" or "failed"."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.status = "waiting"
        self.reason = NOT_REACHED
        self.figures: dict[str, Any] | None = None
        self.path = ""
        self.commands: list[str] = []
        self.seconds: dict[str, float] = {}

    def done(self, figures: dict[str, Any], path: str, making: float, measuring: float) -> None:
        """It was made and measured."""
        self.status, self.figures, self.path, self.reason = "done", figures, path, {"en": "", "zh": ""}
        self.seconds = {"make": making, "measure": measuring}

    def skip(self, english: str, chinese: str) -> None:
        """It was not tried."""
        self.status, self.reason = "skipped", {"en": english, "zh": chinese}

    def fail(self, error: Exception) -> None:
        """It could not be made or measured."""
        said = str(error) or type(error).__name__
        self.status, self.reason = "failed", {"en": said, "zh": said}

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        steps = [
            {"stage": step.stage, "method": step.kind[1], "values": dict(step.values)} for step in self.candidate.steps
        ]
        return {
            "name": self.candidate.name,
            "label": self.candidate.label,
            "steps": steps,
            "status": self.status,
            "reason": self.reason,
            "figures": self.figures,
            "path": self.path,
            "commands": self.commands,
            "seconds": self.seconds,
        }


def impossible(candidate: Candidate, outcomes: Sequence[Outcome]) -> Reason | None:
    """Why a candidate cannot be made, if the same stages one after the other have failed already."""
    stages = [step.stage for step in candidate.steps]
    for other in outcomes if len(stages) > 1 else ():
        if other.status == "failed" and [step.stage for step in other.candidate.steps] == stages:
            shown = other.reason["en"].splitlines()[0], other.reason["zh"].splitlines()[0]
            return f"{other.candidate.label} failed: {shown[0]}", f"{other.candidate.label} 失败：{shown[1]}"
    return None


def hopeless(candidate: Candidate, outcomes: Sequence[Outcome], allowed: float | None) -> Reason | None:
    """Why a candidate is not worth making, if more bits of the same, or its first steps alone, have lost far more of
    the perplexity than is allowed (None: nothing is said)."""
    most = MOST_LOSS if allowed is None else max(HOPELESS * allowed, LEAST_HOPELESS)
    for other in outcomes:
        loss = (other.figures or {}).get("loss")
        if other.status != "done" or (loss is not None and loss["low"] <= most):
            continue
        name, shown = other.candidate.label, "∞" if loss is None else f"{100 * loss['mean']:.3g}%"
        if other.candidate.steps == candidate.steps[:-1] and not candidate.steps[-1].corrects:
            return f"{name} alone raises perplexity by {shown}.", f"仅 {name} 已使困惑度上升 {shown}。"
        if _more_bits(other.candidate, candidate):
            return (
                f"{name} has raised perplexity by {shown}; fewer bits lose more.",
                f"{name} 已使困惑度上升 {shown}，位数更少只会更差。",
            )
    return None


def _more_bits(other: Candidate, candidate: Candidate) -> bool:
    """Whether `other` is the same but for more bits."""
    if len(other.steps) != 1 or len(candidate.steps) != 1 or other.steps[0].stage != candidate.steps[0].stage:
        return False
    a, b = dict(other.steps[0].values), dict(candidate.steps[0].values)
    bits = a.pop("bits", 0), b.pop("bits", 0)
    return a == b and bits[0] > bits[1] > 0
