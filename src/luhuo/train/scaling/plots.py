"""Plots as SVG text: points and lines over logarithmic or linear axes. Nothing is loaded from anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from luhuo.train.scaling.words import number

WIDTH, HEIGHT = 720, 340
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 14, 46

Pairs = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """One name in the legend: points, a line, or both, in colour number `colour`."""

    name: str
    colour: int
    points: Pairs = ()
    line: Pairs = ()
    hollow: bool = False
    dashed: bool = False
    bars: Sequence[tuple[float, float, float]] = ()
    """(x, low, high)."""


def plot(series: Sequence[Series], x_label: str, y_label: str, *, log_y: bool = True) -> str:
    """An SVG element; x is logarithmic. Labels are shown as they are, escaped."""
    spots = [spot for s in series for spot in (*s.points, *s.line)]
    spots += [(x, end) for s in series for x, low, high in s.bars for end in (low, high)]
    spots = [(x, y) for x, y in spots if math.isfinite(x) and math.isfinite(y)]
    x_axis = _Axis([x for x, _ in spots], LEFT, WIDTH - RIGHT, log=True)
    y_axis = _Axis([y for _, y in spots], HEIGHT - BOTTOM, TOP, log=log_y)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)} / {escape(x_label)}">']
    parts += _frame(x_axis, y_axis, x_label, y_label)
    for each in series:
        parts += _draw(each, x_axis, y_axis)
    return "\n".join([*parts, "</svg>", _legend(series)])


class _Axis:
    """Values to coordinates, and ticks at round values."""

    def __init__(self, values: Sequence[float], start: float, stop: float, *, log: bool) -> None:
        self.start, self.stop, self.log = start, stop, log
        scaled = [math.log10(value) if log else value for value in values] or [0.0, 1.0]
        low, high = min(scaled), max(scaled)
        margin = 0.04 * (high - low) or 0.05 * max(abs(low), 1.0)
        self.low, self.high = low - margin, high + margin

    def at(self, value: float) -> float:
        scaled = math.log10(value) if self.log else value
        return self.start + (scaled - self.low) / (self.high - self.low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        low, high = (10**self.low, 10**self.high) if self.log else (self.low, self.high)
        if self.log and self.high - self.low > 0.9:
            steps = (1, 3) if self.high - self.low > 1.6 else (1, 2, 5)
            powers = range(math.floor(self.low), math.ceil(self.high) + 1)
            return [m * 10.0**p for p in powers for m in steps if low <= m * 10.0**p <= high]
        span = high - low
        power = 10.0 ** math.floor(math.log10(span / 5))
        step = next(power * m for m in (1, 2, 5, 10) if power * m * 6 >= span)
        return [float(f"{i * step:.12g}") for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _frame(x_axis: _Axis, y_axis: _Axis, x_label: str, y_label: str) -> list[str]:
    parts = []
    for value in x_axis.ticks():
        x = x_axis.at(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{number(value)}</text>')
    for value in y_axis.ticks():
        y = y_axis.at(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    up = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text x="14" y="{up}" text-anchor="middle" transform="rotate(-90 14 {up})">{escape(y_label)}</text>'
    )
    return parts


def _draw(each: Series, x_axis: _Axis, y_axis: _Axis) -> list[str]:
    colour = f"var(--c{each.colour % 8})"
    parts = []
    line = [(x, y) for x, y in each.line if math.isfinite(x) and math.isfinite(y)]
    if len(line) > 1:
        spots = " ".join(f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in line)
        dashes = ' stroke-dasharray="5 4"' if each.dashed else ""
        parts.append(f'<polyline points="{spots}" stroke="{colour}"{dashes}/>')
    for x, low, high in each.bars:
        at, ends = x_axis.at(x), (y_axis.at(low), y_axis.at(high))
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}" stroke="{colour}"/>')
    fill = "var(--card)" if each.hollow else colour
    for x, y in each.points:
        tip = f"<title>{escape(each.name)}: {number(x)}, {y:.4g}</title>"
        place = f'cx="{x_axis.at(x):.1f}" cy="{y_axis.at(y):.1f}"'
        parts.append(f'<circle {place} r="4" fill="{fill}" stroke="{colour}" stroke-width="1.6">{tip}</circle>')
    return parts


def _legend(series: Sequence[Series]) -> str:
    names: dict[str, int] = {}
    for each in series:
        if each.name:
            names.setdefault(each.name, each.colour)
    keys = [f'<span><i style="background:var(--c{c % 8})"></i>{escape(name)}</span>' for name, c in names.items()]
    return f'<div class="legend">{"".join(keys)}</div>'


def curve(function: Callable[[float], float], low: float, high: float, count: int = 80) -> list[tuple[float, float]]:
    """Points of a function at equal ratios from low to high."""
    return [(float(x), float(function(x))) for x in np.geomspace(low, high, count)]
