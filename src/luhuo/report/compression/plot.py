"""Geometry of a picture of models: what they take against what they lose. The template draws it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 46
BEND = 0.5
"""Percent of loss around which the axis turns from even steps to steps by factors: losses go from 0.01% to 10,000%."""
LOSSES = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 1e4, 1e5, 1e6)
CLOSE = 22.0
"""Units between two labels of an axis."""
LETTER, LINE = 6.3, 13.0
"""Size of a letter of a label."""


@dataclass(frozen=True)
class Point:
    """A model: what it takes, its loss in percent with its interval, and how it is shown."""

    name: str
    label: str
    x: float
    loss: float
    low: float
    high: float
    series: str
    told: str
    """What is shown under the mouse."""
    recommended: bool = False


@dataclass(frozen=True)
class Dot:
    """A point in SVG units; `text` is where its label stands: (x, y, anchor), None where there is no room."""

    point: Point
    x: float
    y: float
    low: float
    high: float
    colour: int
    shape: int
    text: tuple[float, float, str] | None


@dataclass(frozen=True)
class Picture:
    """Everything the template needs."""

    title: str
    x_label: str
    y_label: str
    dots: list[Dot]
    front: str
    """The steps of the Pareto front as an SVG path."""
    original: float | None
    """Where the original stands across."""
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    limit: float | None
    """The largest loss that is allowed, up."""
    zero: float
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def picture(
    title: str,
    labels: tuple[str, str],
    points: Sequence[Point],
    front: Sequence[str],
    *,
    original: float | None,
    shown: Sequence[str],
    scale: float = 1.0,
    limit: float | None = None,
) -> Picture | None:
    """A picture over factors of `x` (`scale` of it is one unit); None where there is nothing to show.

    shown: names whose labels are placed first. limit: the largest loss, in percent.
    """
    if not points:
        return None
    xs = [math.log(p.x) for p in points] + ([math.log(original)] if original else [])
    pad = max(0.08 * (max(xs) - min(xs)), 0.08)
    x_range = (min(xs) - pad, max(xs) + 2 * pad)
    ups = [_bent(value) for p in points for value in (p.loss, p.low, p.high)]
    ups += [0.0, _bent(0.3)] + ([_bent(limit)] if limit is not None else [])
    y_range = (min(ups) - 0.05 * (max(ups) - min(ups)), max(ups) + 0.08 * (max(ups) - min(ups)))

    def across(x: float) -> float:
        return LEFT + (math.log(x) - x_range[0]) / (x_range[1] - x_range[0]) * (WIDTH - LEFT - RIGHT)

    def up(loss: float) -> float:
        share = (_bent(loss) - y_range[0]) / (y_range[1] - y_range[0])
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    series = list(dict.fromkeys(p.series for p in points))
    places = {p.name: (across(p.x), up(p.loss)) for p in points}
    texts = _texts(points, places, [*shown, *(name for name in places if name not in shown)])
    dots = [
        Dot(
            p,
            *places[p.name],
            up(p.low),
            up(p.high),
            series.index(p.series) % 5,
            series.index(p.series) // 5 % 3,
            text,
        )
        for p, text in ((p, texts.get(p.name)) for p in points)
    ]
    return Picture(
        title,
        *labels,
        dots,
        _steps([places[name] for name in front if name in places]),
        across(original) if original else None,
        _spread([(across(x * scale), f"{x:g}") for x in _factors(x_range, scale)], across=True),
        _spread([(up(sign * v), f"{sign * v:g}%") for v in LOSSES for sign in (1, -1)[: 2 if v else 1]]),
        up(limit) if limit is not None else None,
        up(0.0),
    )


def _bent(loss: float) -> float:
    """Even steps near zero, steps by factors far from it; also for losses below zero."""
    return math.asinh(loss / BEND)


def _factors(span: tuple[float, float], scale: float) -> list[float]:
    low, high = (math.exp(end) / scale for end in span)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    values = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 1.5, 2, 3, 5, 7)]
    return [value for value in values if low <= value <= high]


def _spread(ticks: list[tuple[float, str]], *, across: bool = False) -> list[tuple[float, str]]:
    """Those within the picture that do not stand upon one another."""
    start, end, gap = (LEFT, WIDTH - RIGHT, 2 * CLOSE) if across else (TOP, HEIGHT - BOTTOM, CLOSE)
    kept: list[tuple[float, str]] = []
    for place, text in ticks:
        if start <= place <= end and all(abs(place - other) >= gap for other, _ in kept):
            kept.append((place, text))
    return kept


def _steps(places: list[tuple[float, float]]) -> str:
    """The border of what is dominated: across, then down to the next point."""
    ordered = sorted(places)
    words = [f"M{ordered[0][0]:.1f} {ordered[0][1]:.1f}"] if ordered else []
    for x, y in ordered[1:]:
        words.append(f"H{x:.1f} V{y:.1f}")
    return " ".join(words)


def _texts(
    points: Sequence[Point], places: dict[str, tuple[float, float]], order: Sequence[str]
) -> dict[str, tuple[float, float, str]]:
    """Labels beside their points, the first of `order` first; one that would cover another is left out."""
    labels = {p.name: p.label for p in points}
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places.values()]
    found: dict[str, tuple[float, float, str]] = {}
    for name in order:
        if name not in places:
            continue
        (x, y), wide = places[name], LETTER * len(labels[name])
        spots = ((x + 9, y + 4, "start"), (x - 9, y + 4, "end"), (x, y - 10, "middle"), (x, y + 19, "middle"))
        for tx, ty, anchor in spots:
            left = tx - {"start": 0.0, "end": wide, "middle": wide / 2}[anchor]
            box = (left, ty - LINE + 2, left + wide, ty + 2)
            inside = box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                found[name] = (tx, ty, anchor)
                break
    return found


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
