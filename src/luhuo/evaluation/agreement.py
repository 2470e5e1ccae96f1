"""How far people or judges agree beyond chance: Cohen's and Fleiss' kappa, Krippendorff's alpha, with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

T = TypeVar("T")
Label = Hashable
RESAMPLES = 1000
Scale = Literal["nominal", "ordinal", "interval"]


@dataclass(frozen=True)
class Interval:
    """A value with its 95% interval (items drawn again), None where it is not defined, and the number of items."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def cohen_kappa(pairs: Sequence[tuple[Label, Label]]) -> float | None:
    """Cohen's kappa (1960) of two raters' labels of the same things; None where chance alone explains them all."""
    if not pairs:
        return None
    count, first, second = len(pairs), Counter[Label](), Counter[Label]()
    same = 0
    for (a, b), number in Counter(pairs).items():
        first[a] += number
        second[b] += number
        same += number * (a == b)
    observed = same / count
    expected = sum(first[name] * second[name] for name in first) / count**2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def fleiss_kappa(items: Sequence[Sequence[Label]]) -> float | None:
    """Fleiss' kappa (1971) of items with the same number (two or more) of labels each, by whichever raters.

    Raises `LuhuoError` where the numbers differ (use `krippendorff_alpha`).
    """
    if not items:
        return None
    sizes = {len(item) for item in items}
    if len(sizes) > 1 or min(sizes) < 2:
        raise LuhuoError(
            tr("Fleiss' kappa needs the same number of raters for every item.", "Fleiss κ 要求每题评分人数相同。"),
            expected=tr("one number, at least 2", "同一数目，且不少于 2"),
            found=sorted(sizes),
            fix=tr("Krippendorff's alpha takes what is missing.", "有缺失时请用 Krippendorff α。"),
        )
    raters = sizes.pop()
    same, total = 0, Counter[Label]()
    for item, number in Counter(map(tuple, items)).items():
        for label, n in Counter(item).items():
            same += number * n * (n - 1)
            total[label] += number * n
    observed = same / (len(items) * raters * (raters - 1))
    expected = sum((n / (len(items) * raters)) ** 2 for n in total.values())
    return None if expected == 1 else (observed - expected) / (1 - expected)


def krippendorff_alpha(items: Sequence[Sequence[float | str]], scale: Scale = "nominal") -> float | None:
    """Krippendorff's alpha (2011, "Computing Krippendorff's alpha-reliability") of items with any number of values.

    `scale`: how far apart two values are: different or not, by the ranks between them, or by their squared distance.
    Items with fewer than two values say nothing. None where there is nothing to compare, or all values are equal.
    """
    paired = [list(item) for item in items if len(item) > 1]
    values = sorted({value for item in paired for value in item})  # type: ignore[type-var]
    if len(values) < 2:
        return None
    place = {value: number for number, value in enumerate(values)}
    together = np.zeros((len(values), len(values)))
    for item in paired:
        counts = np.bincount([place[value] for value in item], minlength=len(values)).astype(float)
        together += (np.outer(counts, counts) - np.diag(counts)) / (len(item) - 1)
    totals = together.sum(0)
    apart = _distances(values, totals, scale)
    expected = (np.outer(totals, totals) * apart).sum() / (totals.sum() - 1)
    return None if expected == 0 else float(1 - (together * apart).sum() / expected)


def _distances(values: Sequence[float | str], totals: np.ndarray, scale: Scale) -> np.ndarray:
    size = len(values)
    if scale == "nominal":
        return 1.0 - np.eye(size)
    if scale == "interval":
        plain = np.array([float(value) for value in values])
        return (plain[:, None] - plain[None, :]) ** 2
    middle = np.cumsum(totals) - totals / 2  # the distance is the number of values between, half of either end
    return (middle[:, None] - middle[None, :]) ** 2


def interval(
    items: Sequence[T], measure: Callable[[Sequence[T]], float | None], seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """A measure of items with a percentile bootstrap interval (Efron 1979); draws without a value are left out."""
    value = measure(items)
    if value is None or len(items) < 2:
        return Interval(value, None, None, len(items))
    chance = np.random.default_rng(seed)
    drawn = (
        measure([items[i] for i in chance.integers(0, len(items), len(items)).tolist()]) for _ in range(resamples)
    )
    known = [one for one in drawn if one is not None]
    low, high = np.quantile(known, [0.025, 0.975]) if known else (value, value)
    return Interval(value, float(low), float(high), len(items))


def majority(labels: Sequence[T]) -> T | None:
    """The label more often given than any other; None without one."""
    ranked = Counter(labels).most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def shared(a: Mapping[T, Label], b: Mapping[T, Label]) -> list[tuple[Label, Label]]:
    """Two raters' labels of what both rated, in the order of the first."""
    return [(a[key], b[key]) for key in a if key in b]
