"""Stage `scaling-law`: points to law, checks, recommendations, `law.json` and `report.html`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from luhuo.core.atomic import write_json, write_text
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.train.scaling import isoflop
from luhuo.train.scaling.budget import parse_budget, parse_machine
from luhuo.train.scaling.fit import Fit, fit
from luhuo.train.scaling.intervals import Interval, Intervals
from luhuo.train.scaling.law import Array, Law, effective_tokens
from luhuo.train.scaling.points import Point, read_points
from luhuo.train.scaling.recommend import Recommendation, Shapes, recommend

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace
    from luhuo.train.scaling.stages import ScalingLawStage

QUANTITIES = {
    "E": lambda law: law.E,
    "A": lambda law: law.A,
    "B": lambda law: law.B,
    "alpha": lambda law: law.alpha,
    "beta": lambda law: law.beta,
    "size_exponent": lambda law: law.size_exponent,
}


@dataclass(frozen=True)
class Prediction:
    """A run that was not fitted: what the law says of it, and what was measured."""

    point: Point
    predicted: Interval
    """Of one run: the law's uncertainty and the runs' scatter."""

    @property
    def error(self) -> float:
        """Measured over predicted, less one."""
        return self.point.loss / self.predicted.value - 1

    @property
    def inside(self) -> bool:
        """Whether the measured loss lies in the bootstrap interval."""
        return self.predicted.low <= self.point.loss <= self.predicted.high

    def as_dict(self) -> dict[str, Any]:
        """JSON value."""
        return {
            "point": self.point.as_dict(),
            "predicted": self.predicted.as_dict(),
            "error": self.error,
            "inside": self.inside,
        }


@dataclass(frozen=True)
class Analysis:
    """Everything that `law.json` holds and the page shows."""

    points: list[Point]
    count: str
    """What N counts: "all" or "body"."""
    fits: dict[str, Fit]
    """The law with N counted either way."""
    constants: dict[str, Interval]
    levels: list[isoflop.Level]
    exponents: dict[str, isoflop.Exponent | None]
    shapes: Shapes
    recommendations: list[Recommendation] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)

    @property
    def fit(self) -> Fit:
        """The fit that is used."""
        return self.fits[self.count]

    @property
    def law(self) -> Law:
        """The law that is used."""
        return self.fit.law

    def as_dict(self) -> dict[str, Any]:
        """JSON value."""
        fitted = np.exp(np.log([p.loss for p in self.points]) - self.fit.residuals)
        return {
            "law": self.law.as_dict() | {"n": self.count},
            "intervals": {name: interval.as_dict() for name, interval in self.constants.items()},
            "spread": self.fit.spread,
            "huber_delta": self.fit.delta,
            "counts": {
                name: other.law.as_dict() | {"mean_residual": other.mean_residual} for name, other in self.fits.items()
            },
            "exponents": {
                name: None if found is None else {"a": found.a, "factor": found.factor, "points": found.count}
                for name, found in self.exponents.items()
            },
            "recommendations": [each.as_dict() for each in self.recommendations],
            "predictions": [each.as_dict() for each in self.predictions],
            "levels": isoflop.as_dict(self.levels),
            "points": [
                point.as_dict() | {"fitted": float(value), "residual": float(residual)}
                for point, value, residual in zip(self.points, fitted, self.fit.residuals, strict=True)
            ],
        }


def analyse(stage: ScalingLawStage, out: Workspace) -> None:
    """Fit, check, recommend, and write what was found."""
    from luhuo.train.scaling import words
    from luhuo.train.scaling.page import page

    points = [point for folder in stage.runs for point in read_points(folder)]
    held_out = [point for folder in stage.held_out for point in read_points(folder)]
    _comparable([*points, *held_out])
    found = study(points, held_out, stage)
    said = [
        *(words.prediction(each) for each in found.predictions),
        *(words.recommendation(each) for each in found.recommendations),
        *words.warnings(found),
    ]
    write_json(out.path / "law.json", found.as_dict() | {"words": [text._asdict() for text in said]})
    write_text(out.path / "report.html", page(found))
    _headline(found, out.results)


def study(points: list[Point], held_out: list[Point], stage: ScalingLawStage) -> Analysis:
    """The analysis of points in memory. Raises `LuhuoError` for points no law can be fitted to."""
    targets = [parse_budget(text, "targets") for text in stage.targets]
    rate = parse_machine(stage.machine)
    losses = [point.loss for point in points]
    worth = _worth(points)
    fits = {kind: fit(_sizes(points, kind), worth, losses) for kind in ("all", "body")}
    count = min(fits, key=lambda kind: fits[kind].mean_residual) if stage.count == "auto" else stage.count
    intervals = Intervals(fits[count], stage.resamples, stage.seed)
    sizes, flops = _sizes(points, "all"), np.array([point.flops for point in points])
    shapes, unique = Shapes.of(points, rate), float(points[0].unique)
    levels = isoflop.levels(sizes, flops, np.array(losses))
    return Analysis(
        points=points,
        count=count,
        fits=fits,
        constants={name: intervals.of(quantity) for name, quantity in QUANTITIES.items()},
        levels=levels,
        exponents={"envelope": isoflop.first(sizes, flops, np.array(losses)), "isoflop": isoflop.second(levels)},
        shapes=shapes,
        recommendations=[recommend(intervals, shapes, each, count=count, unique=unique) for each in targets],
        predictions=[_predict(intervals, point, count) for point in held_out],
    )


def _sizes(points: Sequence[Point], kind: str) -> Array:
    return np.array([point.parameters if kind == "all" else point.body for point in points], np.float64)


def _worth(points: Sequence[Point]) -> Array:
    return effective_tokens(np.array([p.tokens for p in points], float), np.array([p.unique for p in points], float))


def _predict(intervals: Intervals, point: Point, count: str) -> Prediction:
    size, tokens = float(_sizes([point], count)[0]), float(_worth([point])[0])
    return Prediction(point, intervals.of(lambda law: float(law.loss(size, tokens)), noise=True))


def _comparable(points: Sequence[Point]) -> None:
    """Losses of another tokenizer, row length or corpus do not belong to one law."""
    for name, values in (
        ("vocab_size", {point.shape["vocab_size"] for point in points}),
        ("length", {point.length for point in points}),
        ("unique", {point.unique for point in points}),
    ):
        if len(values) > 1:
            raise LuhuoError(
                tr("These scaling runs cannot be compared.", "这些缩放实验不可比较。"),
                expected=tr(f"one value of {name} in all of them", f"各次运行的 {name} 相同"),
                found=", ".join(f"{value:,}" for value in sorted(values)),
            )


def _headline(found: Analysis, results: dict[str, Any]) -> None:
    results |= {name: getattr(found.law, name) for name in QUANTITIES} | {"spread": found.fit.spread}
    results |= {"runs": len(found.points), "n": found.count}
    for each in found.recommendations:
        results[f"{each.budget}.size"] = round(each.size.value)
        results[f"{each.budget}.tokens"] = round(each.tokens.value)
        results[f"{each.budget}.loss"] = each.loss.value
    for i, prediction in enumerate(found.predictions):
        results |= {f"held_out.{i}.error": prediction.error, f"held_out.{i}.inside": prediction.inside}
