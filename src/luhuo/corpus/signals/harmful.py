"""Harmful and adult text: a small lexicon of our own, and a classifier where one is given. They only flag.

Signals of the family `harmful`:
- `terms`: words of insult, hatred and threat per hundred units (words; Chinese: characters), a text counted as
  `FEWEST` units at least, so that one word in a line is much and one in a novel is nothing;
- `adult`: explicit words, counted alike;
- `classifier`: the probability of a trained classifier of the text's language, where one is given;
- `score`: the largest of the three, both counts divided by `MUCH`. Rules flag above 0.5.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from luhuo.corpus.signals.batch import Batch, Values
from luhuo.corpus.signals.classifier import Classifier
from luhuo.corpus.signals.phrases import compiled

FAMILY = "harmful"
ADULT = "adult"
FEWEST = 40
MUCH = 3.0
"""Words per hundred units that make a score of 1."""


def measure(batch: Batch) -> Values:
    """What the lexicon says."""
    phrases = compiled(FAMILY, batch.lang)
    spans, groups = phrases.find(batch)
    adult = groups == phrases.groups.index(ADULT)
    units = np.maximum(batch.count_of(batch.units.documents), FEWEST)
    rates = {
        "terms": 100 * batch.count_of(spans.documents[~adult]) / units,
        "adult": 100 * batch.count_of(spans.documents[adult]) / units,
    }
    return rates | {"score": np.minimum(np.maximum(rates["terms"], rates["adult"]) / MUCH, 1.0)}


class Model:
    """The lexicon together with classifiers by language."""

    family = FAMILY

    def __init__(self, classifiers: Mapping[str, Classifier]) -> None:
        self._classifiers = dict(classifiers)

    def measure(self, batch: Batch) -> Values:
        """As `measure`, with `classifier` where there is one for the language."""
        values = measure(batch)
        if batch.lang in self._classifiers:
            said = self._classifiers[batch.lang].scores(batch)
            values |= {"classifier": said, "score": np.maximum(values["score"], said)}
        return values
