"""`report.html` of a scaling law: one self-contained page in both languages, with a switch between them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
from markupsafe import Markup

from luhuo.core.language import language
from luhuo.core.pages import templates
from luhuo.train.scaling import words
from luhuo.train.scaling.analyse import Analysis
from luhuo.train.scaling.law import Array, effective_tokens
from luhuo.train.scaling.plots import Series, plot
from luhuo.train.scaling.points import Point

BITS = "bits / byte"


def page(found: Analysis) -> str:
    """The HTML of an analysis. Everything comes from it; nothing is loaded from elsewhere."""
    environment = templates("luhuo.train.scaling")
    return environment.get_template("page.html.jinja").render(
        first="zh" if language() == "zh" else "en",
        version=version("luhuo"),
        found=found,
        number=words.number,
        fitted=np.exp(np.log([point.loss for point in found.points]) - found.fit.residuals).tolist(),
        recommendations=[words.recommendation(each) for each in found.recommendations],
        predictions=[words.prediction(each) for each in found.predictions],
        warnings=words.warnings(found),
        isoflop_plot=Markup(isoflop_plot(found)),
        curves_plot=Markup(curves_plot(found)),
        residual_plot=Markup(residual_plot(found)),
        frontier_plot=Markup(frontier_plot(found)),
    )


def isoflop_plot(found: Analysis) -> str:
    """Loss against size at equal compute: runs, the law's curves, and the parabolas' lowest points."""
    series = []
    spans = np.array([point.parameters for point in found.points], float)
    for colour, level in enumerate(found.levels):
        name = f"{words.number(level.flops)} FLOPs"
        sizes = np.geomspace(spans.min() / 1.5, spans.max() * 1.5, 80)
        series.append(
            Series(name, colour, line=list(zip(sizes.tolist(), _along(found, sizes, level.flops), strict=True)))
        )
        series.append(Series(name, colour, points=list(zip(level.sizes, level.losses, strict=True))))
        if level.best is not None and level.coefficients is not None:
            low = float(np.exp(np.polyval(level.coefficients, np.log(level.best))))
            series.append(Series(name, colour, points=[(level.best, low)], hollow=True))
    return plot(series, "N", BITS)


def curves_plot(found: Analysis) -> str:
    """Loss against tokens: a line of the law for each size, the runs on it, and held-out runs with their interval."""
    series = []
    sizes = sorted({point.parameters for point in found.points})
    for colour, size in enumerate(sizes):
        mine = [point for point in found.points if point.parameters == size]
        reach = np.geomspace(min(p.tokens for p in mine) / 1.3, max(p.tokens for p in found.points) * 1.3, 60)
        losses = found.law.loss(_counted(found, mine[0]), effective_tokens(reach, float(mine[0].unique)))
        series.append(Series(words.number(size), colour, line=list(zip(reach.tolist(), losses.tolist(), strict=True))))
        series.append(Series(words.number(size), colour, points=[(float(p.tokens), p.loss) for p in mine]))
    for each in found.predictions:
        point, colour = each.point, sizes.index(each.point.parameters) if each.point.parameters in sizes else 7
        bar = (float(point.tokens), each.predicted.low, each.predicted.high)
        name = f"held out / 检验 {words.number(point.parameters)}"
        series.append(Series(name, colour, points=[(float(point.tokens), point.loss)], hollow=True, bars=[bar]))
    return plot(series, "D", BITS)


def residual_plot(found: Analysis) -> str:
    """What the law leaves, in percent, by compute."""
    sizes = sorted({point.parameters for point in found.points})
    series = [
        Series(
            words.number(size),
            colour,
            points=[
                (point.flops, 100 * float(np.expm1(residual)))
                for point, residual in zip(found.points, found.fit.residuals, strict=True)
                if point.parameters == size
            ],
        )
        for colour, size in enumerate(sizes)
    ]
    flops = [point.flops for point in found.points]
    series.append(Series("", 7, line=[(min(flops), 0.0), (max(flops), 0.0)], dashed=True))
    return plot(series, "FLOPs", "%", log_y=False)


def frontier_plot(found: Analysis) -> str:
    """The best size by compute, after each of the three approaches, and the recommendations."""
    flops = [point.flops for point in found.points]
    high = max([*flops, *(each.flops for each in found.recommendations)])
    reach = np.geomspace(min(flops), high * 1.5, 40)
    series = [Series("3: L(N, D)", 0, line=[(float(c), _best_size(found, float(c))) for c in reach])]
    for colour, (name, label) in enumerate((("isoflop", "2: isoFLOP"), ("envelope", "1: envelope")), 1):
        exponent = found.exponents[name]
        if exponent is not None:
            line = [(float(c), exponent.size(float(c))) for c in reach]
            series.append(Series(label, colour, line=line, dashed=True))
    best = [(level.flops, level.best) for level in found.levels if level.best is not None]
    series.append(Series("2: isoFLOP", 1, points=best, hollow=True))
    for each in found.recommendations:
        bar = (each.flops, each.size.low, each.size.high)
        series.append(Series("budget / 预算", 3, points=[(each.flops, each.size.value)], bars=[bar]))
    return plot(series, "FLOPs", "N")


def _counted(found: Analysis, point: Point) -> float:
    return float(point.parameters if found.count == "all" else point.body)


def _along(found: Analysis, sizes: Array, flops: float) -> Sequence[float]:
    """The law at one compute, over sizes (all parameters)."""
    shapes, unique = found.shapes, float(found.points[0].unique)
    known = np.log(shapes.parameters)
    per_token, counted = (np.exp(np.interp(np.log(sizes), known, np.log(column))) for column in _columns(found))
    return found.law.loss(counted, effective_tokens(flops / per_token, unique)).tolist()


def _columns(found: Analysis) -> tuple[Array, Array]:
    return found.shapes.flops, found.shapes.count(found.count)


def _best_size(found: Analysis, flops: float) -> float:
    per_token, counted = _columns(found)
    losses = found.law.loss(counted, effective_tokens(flops / per_token, float(found.points[0].unique)))
    return float(found.shapes.parameters[int(losses.argmin())])
