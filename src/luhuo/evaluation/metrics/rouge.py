"""ROUGE-1, -2, -L and -Lsum (Lin 2004), for English as the package rouge-score counts, and for Chinese.

rouge-score keeps lower-case Latin letters and digits and nothing else, so that Chinese always scores 0. There is no
one definition for Chinese: the units here are characters ("characters": each Han character, each Latin word or
number) or jieba's words ("jieba"), and a score says which. Nothing is stemmed.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from luhuo.core.errors import missing_extra

Units = Literal["latin", "characters", "jieba"]
Tokens = list[str]
KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")

_LATIN = re.compile(r"[a-z0-9]+")
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u3040-\u30ff"
_CHARACTERS = re.compile(rf"[{_HAN}]|(?:(?![{_HAN}])[^\W_])+")


@dataclass(frozen=True)
class Overlap:
    """Precision, recall and their harmonic mean, 0 to 1."""

    precision: float
    recall: float
    f1: float

    @classmethod
    def of(cls, hits: int, found: int, wanted: int) -> Overlap:
        """From the number of common units and those of the hypothesis and of the reference."""
        precision, recall = hits / max(found, 1), hits / max(wanted, 1)
        return cls(precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0)


def rouge(hypothesis: str, references: Sequence[str], units: Units = "latin") -> dict[str, Overlap]:
    """{kind of `KINDS`: overlap}; with several references the one with the highest F counts, kind by kind.

    rougeL looks at the text as one sentence, rougeLsum at its lines. Raises `LuhuoError` where jieba is asked for
    and is not installed.
    """
    split = splitter(units)
    rows = [_against(hypothesis, reference, split) for reference in references]
    return {kind: max((row[kind] for row in rows), key=lambda overlap: overlap.f1) for kind in KINDS}


def splitter(units: Units) -> Callable[[str], Tokens]:
    """The function that cuts a text into what ROUGE counts."""
    if units == "jieba":
        return _jieba()
    pattern = _LATIN if units == "latin" else _CHARACTERS
    return lambda text: pattern.findall(text.lower())


@cache
def _jieba() -> Callable[[str], Tokens]:
    try:
        import jieba
    except ImportError:
        raise missing_extra("jieba", "eval") from None
    jieba.setLogLevel("ERROR")
    cutter = jieba.Tokenizer()
    with tempfile.TemporaryDirectory() as folder:  # its cache in the shared folder could be anybody's
        cutter.tmp_dir = folder  # pyright: ignore[reportAttributeAccessIssue]
        cutter.initialize()
    return lambda text: [word for word in cutter.cut(text.lower()) if _CHARACTERS.search(word)]


def _against(hypothesis: str, reference: str, split: Callable[[str], Tokens]) -> dict[str, Overlap]:
    found, wanted = split(hypothesis), split(reference)
    common = common_length(wanted, found)
    return {
        "rouge1": _ngrams(found, wanted, 1),
        "rouge2": _ngrams(found, wanted, 2),
        "rougeL": Overlap.of(common, len(found), len(wanted)),
        "rougeLsum": _by_lines(_lines(hypothesis, split), _lines(reference, split)),
    }


def _ngrams(found: Tokens, wanted: Tokens, n: int) -> Overlap:
    a, b = (Counter(zip(*(tokens[k:] for k in range(n)), strict=False)) for tokens in (found, wanted))
    return Overlap.of((a & b).total(), a.total(), b.total())


def common_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, bits in parallel (Hyyrö 2004): one integer step a token of `a`."""
    places: dict[str, int] = {}
    for place, token in enumerate(b):
        places[token] = places.get(token, 0) | 1 << place
    everything = (1 << len(b)) - 1
    row = everything
    for token in a:
        matches = row & places.get(token, 0)
        row = ((row + matches) | (row - matches)) & everything
    return len(b) - row.bit_count()


def _lines(text: str, split: Callable[[str], Tokens]) -> list[Tokens]:
    return [split(line) for line in text.split("\n") if line]


def _by_lines(found: list[Tokens], wanted: list[Tokens]) -> Overlap:
    """Summary-level ROUGE-L: the union of each reference line's common subsequences with all lines of the
    hypothesis; no unit counts more often than it stands in either text."""
    left, right = (Counter(token for line in lines for token in line) for lines in (found, wanted))
    hits = 0
    for line in wanted:
        union = sorted({place for other in found for place in _common_places(line, other)})
        for token in (line[place] for place in union):
            if left[token] > 0 and right[token] > 0:
                left[token] -= 1
                right[token] -= 1
                hits += 1
    return Overlap.of(hits, sum(map(len, found)), sum(map(len, wanted)))


def _common_places(wanted: Tokens, found: Tokens) -> list[int]:
    """Places in `wanted` of one longest common subsequence, the last of several: as rouge-score goes back."""
    table = [[0] * (len(found) + 1)]
    for token in wanted:
        above, row = table[-1], [0]
        for place, other in enumerate(found):
            row.append(above[place] + 1 if token == other else max(above[place + 1], row[-1]))
        table.append(row)
    places, i, j = [], len(wanted), len(found)
    while i and j:
        if wanted[i - 1] == found[j - 1]:
            i, j = i - 1, j - 1
            places.append(i)
        elif table[i][j - 1] > table[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return places
