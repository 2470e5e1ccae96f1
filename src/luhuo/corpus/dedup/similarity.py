"""Whether two documents that look alike are duplicates: their texts compared, not their signatures.

Jaccard similarity of pieces cannot tell a copy with 5% of its characters edited (0.5 to 0.66) from another text of
the same form (up to 0.6). Their alignment can: the copy agrees in 92% of its characters and more, the other text in
82% and less. So the rule is 1 - distance / length, where the distance counts characters deleted, inserted, replaced,
and neighbours swapped (optimal string alignment, by rapidfuzz). Texts of which parts were moved, added or taken away
agree badly so; they are duplicates by the Jaccard similarity of their pieces, at the height that is custom (0.8).

Two texts may be fillings of one form however alike they are. So it is where they are full of numbers of which hardly
any agrees, or where most of what differs is one expression put for another again and again: a name, a subject.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from luhuo.core.errors import missing_extra
from luhuo.corpus.dedup import folding
from luhuo.corpus.dedup.shingles import U64, shingles
from luhuo.corpus.dedup.stages import Near

if TYPE_CHECKING:
    from rapidfuzz.distance import Opcode

LONGEST = 20_000
"""Longer texts are not aligned (that takes the product of their lengths): there, the Jaccard similarity at which
candidates are looked for decides, since in so many pieces chance and forms do not reach it."""
NUMBER = re.compile(r"\d+")
MANY_NUMBERS = 6
FEW_IN_COMMON = 1 / 3
LONGEST_FORM = 3_000
"""Longer texts are not looked through for a change of subject."""
AGAIN = 3
"""A change of subject replaces an expression at least so often."""
MOST_OF_IT = 0.5
"""Share of the edited characters that replace an expression repeatedly."""


def require_rapidfuzz() -> None:
    """Raise `LuhuoError` if the library is missing: known before the work begins, not in its middle."""
    if find_spec("rapidfuzz") is None:
        raise missing_extra("rapidfuzz", "data")


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
    alike = agrees(left, right, near.similarity) or (
        agreement >= near.jaccard - 0.15 and jaccard(left, right, near) >= near.jaccard
    )
    return alike and not _other_subject(left, right)


def agrees(left: str, right: str, least: float) -> bool:
    """Whether 1 - optimal string alignment distance / length of the longer text is at least `least`.

    The distance in which a swap of neighbours counts as two edits is at most twice as large, and many times as fast to
    find up to a bound: it decides nearly all pairs.
    """
    from rapidfuzz.distance import OSA, Levenshtein

    quick = Levenshtein.normalized_similarity(left, right, score_cutoff=2 * least - 1)
    if quick >= least or quick == 0:
        return quick > 0
    return OSA.normalized_similarity(left, right, score_cutoff=least) > 0


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


def _other_subject(left: str, right: str) -> bool:
    """Whether most of the edits put the same expressions, of two letters and more, in the place of others."""
    from rapidfuzz.distance import Levenshtein

    if max(len(left), len(right)) > LONGEST_FORM:
        return False
    changes: Counter[tuple[str, str]] = Counter()
    edited = 0
    for kind, begin, end, other_begin, other_end in _runs(Levenshtein.opcodes(left, right)):
        old, new = left[begin:end], right[other_begin:other_end]
        edited += max(len(old), len(new))
        if kind == "replace" and min(len(old), len(new)) > 1 and old.isalpha() and new.isalpha():
            changes[old, new] += 1
    if not changes or changes.most_common(1)[0][1] < AGAIN:
        return False
    again = sum(count * max(len(old), len(new)) for (old, new), count in changes.items() if count > 1)
    return again >= MOST_OF_IT * edited


def _runs(codes: Iterable[Opcode]) -> Iterator[tuple[str, int, int, int, int]]:
    """Neighbouring edits as one."""
    for same, run in itertools.groupby(codes, key=lambda code: code.tag == "equal"):
        if not same:
            edits = list(run)
            first, last = edits[0], edits[-1]
            kind = first.tag if len(edits) == 1 else "replace"
            yield kind, first.src_start, last.src_end, first.dest_start, last.dest_end
