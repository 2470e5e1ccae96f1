"""Finding documents for a query: BM25 over words and Chinese bigrams, and by the vectors of a model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from luhuo.inference.engine import Engine
from luhuo.model.encoder import Encoder

K1, B = 1.2, 0.75
"""Robertson & Zaragoza 2009, section 3.5."""
_LISTED = """
a an and are as at be but by for from had has have he her his i if in into is it its no not of on or our she so such
that the their them then there these they this to was we were what when where which who will with would you your
"""
_STOPS = frozenset(_LISTED.split())
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNITS = re.compile(rf"[{_HAN}]+|(?:(?![{_HAN}])[^\W_])+")
_PLURAL = re.compile(r"(?<=[a-z])(?:(?<![ea])ies|(?<![aeo])es|(?<![us])s)$")


def terms(text: str) -> list[str]:
    """What is indexed: Latin words without stop words and plural endings (Harman 1991), Han characters and pairs."""
    found: list[str] = []
    for match in _UNITS.finditer(text.lower()):
        unit = match[0]
        if re.match(f"[{_HAN}]", unit):
            found += [*unit, *(unit[place : place + 2] for place in range(len(unit) - 1))]
        elif unit not in _STOPS:
            found.append(_PLURAL.sub(_singular, unit) if len(unit) > 3 else unit)
    return found


def _singular(ending: re.Match[str]) -> str:
    return {"ies": "y", "es": "e"}.get(ending[0], "")


class BM25:
    """An index of documents (Robertson et al. 1994, with the idf that is never negative)."""

    def __init__(self, documents: Mapping[str, str]) -> None:
        self.names = list(documents)
        counts = [Counter(terms(text)) for text in documents.values()]
        lengths = np.array([count.total() for count in counts], dtype=np.float64)
        self._norm = K1 * (1 - B + B * lengths / max(float(lengths.mean()), 1.0)) if len(lengths) else lengths
        postings: dict[str, tuple[list[int], list[int]]] = {}
        for number, count in enumerate(counts):
            for term, times in count.items():
                places, often = postings.setdefault(term, ([], []))
                places.append(number)
                often.append(times)
        self._postings = {term: (np.array(a), np.array(b, dtype=np.float64)) for term, (a, b) in postings.items()}

    def scores(self, query: str) -> np.ndarray:
        """The score of each document, in the order of `names`."""
        total = np.zeros(len(self.names))
        for term, times in Counter(terms(query)).items():
            if term in self._postings:
                places, often = self._postings[term]
                idf = np.log(1 + (len(self.names) - len(places) + 0.5) / (len(places) + 0.5))
                total[places] += times * idf * often * (K1 + 1) / (often + self._norm[places])
        return total

    def ranking(self, query: str, k: int) -> list[str]:
        """Names of the k best documents that share a term with the query, best first, ties by place."""
        scores = self.scores(query)
        return [self.names[i] for i in best(scores, k) if scores[i] > 0]


def best(scores: np.ndarray, k: int) -> list[int]:
    """Places of the k largest values, largest first, ties by place."""
    return np.argsort(-scores, kind="stable")[:k].tolist()


def vectors(engine: Engine, texts: Sequence[str]) -> Tensor:
    """Vectors of texts, which are cut at the end where they exceed the model's context."""
    if not isinstance(engine.model, Encoder):
        texts = [_cut(engine, text) for text in texts]
    return engine.embed(texts)


def _cut(engine: Engine, text: str) -> str:
    """The longest beginning that fits, found by halving."""
    if len(engine.prompt_ids(text)) <= engine.context:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        fits = len(engine.prompt_ids(text[:middle])) <= engine.context
        low, high = (middle, high) if fits else (low, middle - 1)
    return text[:low]
