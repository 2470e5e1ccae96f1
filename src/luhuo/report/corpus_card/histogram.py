"""Geometry of histograms: values to bins, bins to bars in SVG units. The template draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luhuo.report.charts import ticks

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 320, 130, 18, 18, 16, 24
BINS = 36
SPREAD = 30.0
"""Largest value over the middle one from which the axis counts powers."""
EDGE = 0.002
"""Share of the values on either side that may lie in the outermost bin."""


@dataclass(frozen=True)
class Bar:
    """One bin: where it stands, and how high its parts are, in SVG units; from the ground up: kept, dropped."""

    x: float
    width: float
    kept: float
    dropped: float
    label: str


@dataclass(frozen=True)
class Histogram:
    """A histogram with limits drawn in. Ticks are (position, label), limits (position, label, allowed side)."""

    title: str
    bars: list[Bar]
    x_ticks: list[tuple[float, str]]
    limits: list[tuple[float, str]]
    counted: int
    width: int = WIDTH
    height: int = HEIGHT
    ground: int = HEIGHT - BOTTOM
    top: int = TOP


def histogram(
    title: str, values: Sequence[float], dropped: Sequence[bool], least: float | None = None, most: float | None = None
) -> Histogram | None:
    """A histogram of finite values; those of dropped documents stand on those of kept ones. None of no values.

    least, most: the values that are allowed; no bar crosses these. Values beyond the outermost bins are counted in
    them. An axis of powers is taken where values spread widely.
    """
    column, mask = np.asarray(values, np.float64), np.asarray(dropped, bool)
    finite = np.isfinite(column)
    column, mask = column[finite], mask[finite]
    if not len(column):
        return None
    low, high = _bounds(column, least, most)
    powers = low >= 0 and high > SPREAD * max(float(np.median(column)), 1e-9) and high > 1
    forward, back = (np.log1p, np.expm1) if powers else (_same, _same)
    edges = back(np.linspace(forward(low), forward(high), BINS + 1))
    edges[0], edges[-1] = low, high
    if least is not None:
        edges[np.argmin(np.abs(edges - least))] = least
    if most is not None:  # the limit itself is allowed: it belongs to the bar below
        edges[np.argmin(np.abs(edges - most))] = np.nextafter(most, np.inf)
    inside = np.clip(column, edges[0], edges[-1])
    kept, lost = np.histogram(inside[~mask], edges)[0], np.histogram(inside[mask], edges)[0]
    first, last = float(forward(edges[0])), float(forward(edges[-1]))

    def across(value: float) -> float:
        return LEFT + (float(forward(value)) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    marks = _powers(low, high) if powers else [tick for tick in ticks(low, high) if low <= tick <= high]
    lines = [(across(limit), f"{limit:g}") for limit in (least, most) if limit is not None]
    bars = _bars(kept.tolist(), lost.tolist(), edges.tolist(), [across(edge) for edge in edges.tolist()])
    return Histogram(title, bars, [(across(mark), f"{mark:,g}") for mark in marks], lines, len(column))


def _bounds(column: NDArray[np.float64], least: float | None, most: float | None) -> tuple[float, float]:
    """Where the axis begins and ends: nearly all values and the limits lie within, and room for what is beyond."""
    low, high = (float(value) for value in np.quantile(column, (EDGE, 1 - EDGE)))
    low = low if least is None else min(low, least)
    high = high if most is None else max(high, most)
    room = 2 * (high - low or 1.0) / BINS
    low, high = (low, high) if low < high else (low - room, high + room)
    beyond = column.min() < low and low == least, column.max() > high and high == most
    return low - room * beyond[0], high + room * beyond[1]


def _same(values: Any) -> Any:
    return values


def binned(title: str, kept: Sequence[int], dropped: Sequence[int], edges: Sequence[float]) -> Histogram | None:
    """A histogram of values counted before, in bins of equal width on the page. None of no values."""
    filled = [number for number, pair in enumerate(zip(kept, dropped, strict=True)) if any(pair)]
    if not filled:
        return None
    first, last = max(0, filled[0] - 2), min(filled[-1] + 3, len(kept))
    step = (WIDTH - LEFT - RIGHT) / (last - first)
    places = [LEFT + step * number for number in range(last - first + 1)]
    bars = _bars(kept[first:last], dropped[first:last], edges[first : last + 1], places)
    every = max(1, -(-(last - first) // 5))
    marks = [(places[n], f"{float(f'{edges[first + n]:.2g}'):,.0f}") for n in range(0, last - first + 1, every)]
    return Histogram(title, bars, marks, [], sum(kept) + sum(dropped))


def _bars(kept: Sequence[int], dropped: Sequence[int], edges: Sequence[float], places: Sequence[float]) -> list[Bar]:
    highest = max(a + b for a, b in zip(kept, dropped, strict=True)) or 1
    scale = (HEIGHT - TOP - BOTTOM) / highest
    found = []
    for number, (a, b) in enumerate(zip(kept, dropped, strict=True)):
        if a or b:
            label = f"{edges[number]:.3g} … {edges[number + 1]:.3g}: {a:,} + {b:,}"
            width = max(places[number + 1] - places[number] - 1, 1)
            # What is rare must still be seen.
            heights = [max(1.5, count * scale) if count else 0.0 for count in (a, b)]
            found.append(Bar(places[number], width, heights[0], heights[1], label))
    return found


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten between two values, and 0."""
    most = math.floor(math.log10(max(high, 1)))
    return [mark for mark in (0.0, *(10.0**power for power in range(most + 1))) if low <= mark <= high]
