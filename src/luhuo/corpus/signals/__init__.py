"""Signals: what a text is like, as numbers, measured for many texts at once; nothing is decided here.

`measure(texts, lang)` gives one flat dict a text, keys `family.name` (docs/corpus-quality.md lists them). The families
of a language are those of its rules; a trained model (`perplexity.Model`, `classifier.Model`, `harmful.Model`) is a
family of its own when it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

import numpy as np

from luhuo.core.config import unknown_key
from luhuo.core.language import tr
from luhuo.corpus.signals import boilerplate, c4, chinese, damage, fineweb, gopher, harmful, repetition, shape
from luhuo.corpus.signals.batch import Batch, Values

FAMILIES: dict[str, Callable[[Batch], Values]] = {
    "shape": shape.measure,
    "gopher": gopher.measure,
    "c4": c4.measure,
    "fineweb": fineweb.measure,
    "repetition": repetition.measure,
    "chinese": chinese.measure,
    "boilerplate": boilerplate.measure,
    "damage": damage.measure,
    "harmful": harmful.measure,
}
ENGLISH_ONLY, CHINESE_ONLY = ("gopher", "c4", "fineweb"), ("chinese",)
DIGITS = 4
"""Decimals of a value."""
CHUNK = 1 << 18
"""Characters measured together: arrays of this size stay in the processor's cache."""
LONGEST = 1 << 22
"""Characters of one text that are looked at (4 million): memory stays bounded whatever a document holds."""


class Model(Protocol):
    """A trained model that gives signals: its family, and its values for a batch."""

    family: str

    def measure(self, batch: Batch) -> Values: ...


def families(lang: str) -> tuple[str, ...]:
    """The families measured for a language."""
    left_out = {"en": CHINESE_ONLY, "zh": ENGLISH_ONLY}.get(lang, ("c4", *CHINESE_ONLY))
    return tuple(name for name in FAMILIES if name not in left_out)


def measure(
    texts: Sequence[str], lang: str, chosen: Collection[str] | None = None, models: Sequence[Model] = ()
) -> list[dict[str, float]]:
    """One flat dict a text: "family.name" -> value, rounded to 4 decimals.

    `chosen`: names of families, instead of all that the language has. A value depends on its text alone, never on the
    others. Raises `LuhuoError` for an unknown family.
    """
    wanted = families(lang) if chosen is None else tuple(chosen)
    for name in wanted:
        if name not in FAMILIES:
            raise unknown_key(name, list(FAMILIES), None, tr("family of signals", "信号族"))
    work = {name: FAMILIES[name] for name in FAMILIES if name in wanted}
    work |= {model.family: model.measure for model in models}  # in the place of the lexicon alone, for `harmful`
    rows: list[dict[str, float]] = []
    for part in _chunks(texts):
        batch = Batch(part, lang)
        columns = {
            f"{family}.{name}": np.round(values, DIGITS).tolist()
            for family, values_of in work.items()
            for name, values in values_of(batch).items()
        }
        names = tuple(columns)
        rows.extend(dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True))
        if not names:
            rows.extend({} for _ in part)
    return rows


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in groups of about `CHUNK` characters."""
    group: list[str] = []
    size = 0
    for text in texts:
        if group and (size + len(text) > CHUNK or len(group) == repetition.MOST_DOCUMENTS - 1):
            yield group
            group, size = [], 0
        group.append(text[:LONGEST])
        size += len(text)
    if group:
        yield group
