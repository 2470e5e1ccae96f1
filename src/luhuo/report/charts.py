"""Geometry of the line charts: data to SVG coordinates, ticks at round numbers. The template draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 720, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 40
MOST_POINTS = 400


@dataclass(frozen=True)
class Line:
    """One curve: its name and its points as an SVG `points` attribute."""

    name: str
    points: str
    last: float


@dataclass(frozen=True)
class Chart:
    """Everything the template needs to draw a chart. Ticks are (position in SVG units, label)."""

    title: str
    x_label: str
    y_label: str
    lines: list[Line]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    width: int = field(default=WIDTH)
    height: int = field(default=HEIGHT)
    left: int = field(default=LEFT)
    right: int = field(default=WIDTH - RIGHT)
    top: int = field(default=TOP)
    bottom: int = field(default=HEIGHT - BOTTOM)


def line_chart(
    title: str, x_label: str, y_label: str, curves: Mapping[str, Sequence[tuple[float, float]]]
) -> Chart | None:
    """A chart of the curves' finite points over common axes; None where there is nothing to draw."""
    clean = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in curves.items()}
    clean = {name: _thin(points) for name, points in clean.items() if len(points) > 1}
    if not clean:
        return None
    xs = [x for points in clean.values() for x, _ in points]
    ys = [y for points in clean.values() for _, y in points]
    x_axis, y_axis = ticks(min(xs), max(xs)), ticks(min(ys), max(ys))
    x_range = (min(xs), max(xs)) if min(xs) < max(xs) else (min(xs), min(xs) + 1)
    y_range = (min(y_axis[0], min(ys)), max(y_axis[-1], max(ys)))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_range[0]) / (x_range[1] - x_range[0])
        up = (y - y_range[0]) / ((y_range[1] - y_range[0]) or 1)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    lines = [
        Line(name, " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in points), points[-1][1])
        for name, points in clean.items()
    ]
    x_ticks = [(place(x, y_range[0])[0], f"{x:,g}") for x in x_axis if x_range[0] <= x <= x_range[1]]
    y_ticks = [(place(x_range[0], y)[1], f"{y:g}") for y in y_axis]
    return Chart(title, x_label, y_label, lines, x_ticks, y_ticks)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten apart) that reach from below `low` to above `high`."""
    span = (high - low) or max(abs(high), 1.0)
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * wanted >= span)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MOST_POINTS` points: means over equal runs of neighbours."""
    size = math.ceil(len(points) / MOST_POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]
