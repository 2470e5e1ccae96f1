"""Whether two documents that look alike are duplicates: their texts compared, not their signatures.

Jaccard similarity of pieces cannot tell a copy with 5% of its characters edited (0.5 to 0.66) from another text of
the same form (up to 0.6). Their alignment can: the copy agrees in 92% of its characters and more, the other text in
82% and less. So the rule is 1 - distance / length, where the distance counts characters deleted, inserted, replaced,
and neighbours swapped (optimal string alignment, by rapidfuzz). Texts of which parts were moved, added or taken away
agree badly so; they are duplicates by the Jaccard similarity of their pieces, at the height that is custom (0.8).

Two texts that are full of numbers of which hardly any agrees are two fillings of one form, however alike they are.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

import numpy as np

from luhuo.core.errors import missing_extra
from luhuo.corpus.dedup import folding
from luhuo.corpus.dedup.shingles import U64, shingles
from luhuo.corpus.dedup.stages import Near

LONGEST = 20_000
"""Longer texts are not aligned (that takes the product of their lengths): there, the Jaccard similarity at which
candidates are looked for decides, since in so many pieces chance and forms do not reach it."""
NUMBER = re.compile(r"\d+")
MANY_NUMBERS = 6
FEW_IN_COMMON = 1 / 3


def is_duplicate(left: str, right: str, near: Near, agreement: float = 1.0) -> bool:
    """Whether two folded texts are duplicates of each other.

    agreement: estimate of the Jaccard similarity; where it is far below the bound, the true one is not computed.
    """
    if left == right:
        return True
    if _other_numbers(left, right):
        return False
    if max(len(left), len(right)) > LONGEST:
        return jaccard(left, right, near) >= near.threshold
    return aligned(left, right, near.similarity) >= near.similarity or (
        agreement >= near.jaccard - 0.15 and jaccard(left, right, near) >= near.jaccard
    )


def aligned(left: str, right: str, least: float = 0.0) -> float:
    """1 - optimal string alignment distance / length of the longer text; 0 where it is less than `least`."""
    try:
        from rapidfuzz.distance import OSA
    except ImportError:
        raise missing_extra("rapidfuzz", "data") from None
    return OSA.normalized_similarity(left, right, score_cutoff=least)


def jaccard(left: str, right: str, near: Near) -> float:
    """The true Jaccard similarity of the pieces of two folded texts."""
    one, other = _pieces(left, near.pieces), _pieces(right, near.pieces)
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / max(len(one) + len(other) - common, 1)


@lru_cache(maxsize=64)
def _pieces(text: str, unit: str) -> U64:
    return np.unique(shingles(folding.fold([text]), "words" if unit == "words" else "characters")[0])


def _other_numbers(left: str, right: str) -> bool:
    one, other = Counter(NUMBER.findall(left)), Counter(NUMBER.findall(right))
    fewer = min(one.total(), other.total())
    return fewer >= MANY_NUMBERS and (one & other).total() < FEW_IN_COMMON * fewer
