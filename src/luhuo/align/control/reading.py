"""From rows to what an attribute is in them: first a label or a number, then one of its classes."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from luhuo.align.control.config import (
    CLASS,
    AttributeConfig,
    ColumnAttribute,
    LanguageAttribute,
    LengthAttribute,
    PatternAttribute,
    RewardAttribute,
)
from luhuo.align.rewards import Rewards
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.verify.layout import matches
from luhuo.verify.scoring import words
from luhuo.verify.script import language_of

Raw = str | float | None
"""A label, a number, or None where an attribute is unknown."""
MOST_CLASSES = 64
"""A column with more labels is no attribute: it is text."""


@dataclass(frozen=True)
class Told:
    """What is looked at of a row: its columns, what is asked, and the answers that are learned."""

    item: Mapping[str, Any]
    prompt: Sequence[Mapping[str, Any]]
    """All messages before the last answer."""
    answers: Sequence[str]


Reader = Callable[[Sequence[Told]], list[Raw]]


def reader(attribute: AttributeConfig) -> Reader:
    """What reads an attribute out of rows."""
    if isinstance(attribute, LengthAttribute):
        count = words if attribute.unit == "words" else len
        return lambda rows: [sum(map(count, row.answers)) / len(row.answers) for row in rows]
    if isinstance(attribute, LanguageAttribute):
        return lambda rows: [language_of("\n".join(row.answers)) for row in rows]
    if isinstance(attribute, PatternAttribute):
        return lambda rows: [_form(attribute, row.answers) for row in rows]
    if isinstance(attribute, RewardAttribute):
        return _scores(attribute)
    return lambda rows: [_column(attribute, row.item) for row in rows]


@dataclass(frozen=True)
class Classes:
    """The classes of one attribute; of a number also the borders between them."""

    names: tuple[str, ...]
    edges: tuple[float, ...] = ()
    numeric: bool = False

    def of(self, raw: Raw) -> str | None:
        """The class of a value, or None where it is unknown."""
        if self.numeric:
            return None if not isinstance(raw, float) else self.names[bisect.bisect_right(self.edges, raw)]
        return raw if isinstance(raw, str) and raw in self.names else None


def classes(attribute: AttributeConfig, values: Iterable[Raw]) -> Classes:
    """The classes of an attribute, those that the configuration leaves open from the values in the data.

    Raises `LuhuoError` where there are no values to make them of, or a column holds too many labels.
    """
    numeric = not isinstance(attribute, (LanguageAttribute, PatternAttribute)) and bool(
        getattr(attribute, "classes", None)
    )
    if not numeric:
        names = attribute.known or _labels(attribute, values)
        return Classes(tuple(names))
    edges = getattr(attribute, "edges", None) or _quantiles(attribute, values)
    return Classes(tuple(attribute.known), tuple(edges), True)


def _labels(attribute: AttributeConfig, values: Iterable[Raw]) -> list[str]:
    found: set[str] = set()
    for value in values:
        if isinstance(value, str) and CLASS.match(value):
            found.add(value)
        if len(found) > MOST_CLASSES:
            raise _no_classes(attribute, tr(f"more than {MOST_CLASSES} labels", f"超过 {MOST_CLASSES} 种标签"))
    if not found:
        raise _no_classes(attribute, tr("no label", "没有任何标签"))
    return sorted(found)


def _quantiles(attribute: AttributeConfig, values: Iterable[Raw]) -> list[float]:
    """Borders that leave equally many rows in each class; where many rows are equal, not all classes may differ."""
    numbers = np.fromiter((value for value in values if isinstance(value, float)), dtype=np.float64)
    count = len(attribute.known)
    if not len(numbers):
        raise _no_classes(attribute, tr("no number", "没有任何数值"))
    numbers.sort()
    edges = [float(numbers[min(len(numbers) - 1, math.ceil(len(numbers) * k / count))]) for k in range(1, count)]
    if len(set(edges)) < len(edges) or edges[0] == numbers[0]:
        raise _no_classes(attribute, tr(f"borders {edges}", f"界限 {edges}"))
    return edges


def _no_classes(attribute: AttributeConfig, found: str) -> LuhuoError:
    return LuhuoError(
        tr("The data do not part into the classes of this attribute.", "数据无法划分为该属性的各类。"),
        expected=", ".join(attribute.known) or tr("labels that come again", "重复出现的标签"),
        found=found,
        where=attribute.name,
        fix=tr("Give `edges` or `values`, or other classes.", "请给出 edges 或 values，或换用其他分类。"),
    )


def _form(attribute: PatternAttribute, answers: Sequence[str]) -> str | None:
    for name, pattern in attribute.patterns.items():
        if all(matches(answer, pattern) for answer in answers):
            return name
    return attribute.other or None


def _column(attribute: ColumnAttribute, item: Mapping[str, Any]) -> Raw:
    """A cell as a label, or as a number where classes are of numbers; anything else is unknown."""
    value: Any = item
    for part in attribute.key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if attribute.classes:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            return None
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        return number if math.isfinite(number) else None
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(str(value).split()) or None if isinstance(value, (str, int, float)) else None


def _scores(attribute: RewardAttribute) -> Reader:
    rewards = Rewards([attribute.reward])

    def read(rows: Sequence[Told]) -> list[Raw]:
        items = [{**row.item, "messages": list(row.prompt)} for row in rows]
        return list(rewards.score_all(items, [row.answers[-1] for row in rows]).totals)

    return read
