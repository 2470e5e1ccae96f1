"""Questions that come again: exactly, nearly, and with answers that contradict each other.

That is, but for case, blanks and marks at the end. Nearly the same are questions of which 90% of the words (Chinese:
characters) agree and the changes are scattered: a longer new piece, another number, operator or negation makes another
question, and so do answers that have little in common. Candidates come from MinHash (`corpus.dedup`).
"""

# ruff: noqa: E501 (alternatives of a pattern, and a text in two languages, stay on one line)
from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from luhuo.core.errors import missing_extra
from luhuo.corpus.decontaminate.ngrams import hash_of, units_of
from luhuo.corpus.dedup import folding, minhash
from luhuo.corpus.dedup.shingles import shingles
from luhuo.corpus.normalise import normalise

PLACES, ROWS = 128, 4
"""MinHash signatures in bands of so many places: pairs that share half of their pieces are candidates."""
MOST_IN_BAND = 50
"""Questions that share a band and are compared with each other; of more, each with the next ones."""
LEAST_ALIKE = 0.2
"""Share of equal places in two signatures: an estimate of the pieces that two questions share."""
GROUP = 20_000
"""Questions that are signed together."""
SIMILAR = 0.9
"""Share of the units of a question that agree."""
PIECE, PIECE_SHARE = 2, 0.05
"""Units that may change in one place: at least, and of the question."""
ANSWERS = 0.25
"""Share of the units of two answers that they have in common, at least, for their questions to be one."""
END_CHARS = 1500
"""Characters of each end of a long question that are compared."""
SAMPLE = 128
"""Hashes of the units of an answer that are kept."""
SHORT_ANSWER = 4
"""Units of an answer up to which it is a fact rather than a text."""
QUALITY_UNITS = 300
"""Units of an answer from which on a longer one is not better."""

NUMBERS = re.compile(r"\d+(?:\.\d+)?|(?<=[\d\s)x])[+\-*/=<>^×÷](?=[\d\s(x])|[√∑∫≤≥≠]")
NEGATIONS = "not no never without except least non un 不没无非否未勿莫反错"
CLOSED = re.compile(
    r"^(?:who|when|where|which|how (?:many|much|old|far|long|tall)|what (?:is|are|was|were|year|day|time|colou?r)|is|are|was|were|do|does|did|can|true or false|calculate|compute|solve|evaluate|find)\b"
    r"|谁|哪|多少|几|何时|何地|是不是|是否|对吗|吗[？?]?$|计算|求|等于|判断",
    re.IGNORECASE,
)
"""Questions of which one answer is right."""
YES = frozenset({"yes", "true", "correct", "right", *"是对正能可会有"})
NO = frozenset({"no", "false", "incorrect", "wrong", *"不否错没无"})
NAME = ":"
"""What a value begins with that is a name and no number, yes or no."""
VALUE = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")


@dataclass(frozen=True)
class Asked:
    """What is remembered of a row to compare it with others."""

    number: int
    key: str
    same: int
    """Equal for equal questions."""
    text: str
    """Of a long question the two ends."""
    units: np.ndarray
    """(n,) uint32 of the same."""
    numbers: int
    """Equal for questions with equal numbers and operators in equal order."""
    answer_same: int
    answer_units: np.ndarray
    """The smallest hashes of the answer's units: a sample that is the same in every answer."""
    value: str | None
    """What the answer says, where the question has one right answer and the answer is short or ends in a number."""
    answer_length: int
    """Units."""

    @classmethod
    def of(cls, number: int, key: str, question: str, answer: str) -> Asked:
        """Of a question with its answer; `number` names the row."""
        plain = " ".join(normalise(question).casefold().split()).rstrip(" .。!！?？")
        short = plain if len(plain) <= 2 * END_CHARS else f"{plain[:END_CHARS]} {plain[-END_CHARS:]}"
        said = units_of(answer)
        return cls(
            number,
            key,
            _text_hash(plain),
            short,
            units_of(short).hashes.astype(np.uint32),
            _text_hash("\0".join(NUMBERS.findall(plain))),
            hash_of(said.hashes) if len(said) else _text_hash(answer.strip()),
            np.unique(said.hashes.astype(np.uint32))[:SAMPLE],
            _value(question.strip(), answer, said.texts()),
            len(said),
        )


@dataclass(frozen=True)
class Repeat:
    """Why a row repeats another, and the row that is kept in its place (none of a conflict without majority)."""

    reason: str
    of: int | None


def repeats(rows: Sequence[Asked], *, near: bool = True) -> dict[int, Repeat]:
    """The rows to drop, by number. Neither their order nor their numbers decide which of a group is kept."""
    dropped: dict[int, Repeat] = {}
    groups: dict[int, list[Asked]] = defaultdict(list)
    for row in rows:
        groups[row.same].append(row)
    left: list[Asked] = []
    for members in groups.values():
        kept = _settle(members, dropped) if len(members) > 1 else members[0]
        if kept is not None:
            left.append(kept)
    if near:
        for members in _near_groups(left):
            best = max(members, key=_rank)
            dropped |= {row.number: Repeat("near_duplicate", best.number) for row in members if row is not best}
    return dropped


def _settle(members: list[Asked], dropped: dict[int, Repeat]) -> Asked | None:
    """The one that is kept of rows that ask the same; the others go to `dropped`."""
    said = _said(members)
    values = Counter(said[row.number] for row in members if row.value is not None)
    agreed = members
    if len(values) > 1:
        (first, count), (_, second) = values.most_common(2)
        right = first if count > second else None
        agreed = [row for row in members if said[row.number] == right] if right is not None else []
        keeper = max(agreed, key=_rank).number if agreed else None
        dropped |= {row.number: Repeat("conflict", keeper) for row in members if row not in agreed}
    if not agreed:
        return None
    best = max(agreed, key=_rank)
    for row in agreed:
        if row is not best:
            same = row.answer_same == best.answer_same
            dropped[row.number] = Repeat("duplicate" if same else "same_question", best.number)
    return best


def _said(members: list[Asked]) -> dict[int, str]:
    """What each row's answer says, by number: a name and a fuller form of it say the same."""
    names = sorted({row.value for row in members if row.value and row.value[0] == NAME}, key=lambda v: (-len(v), v))
    found = dict[int, str]()
    for row in members:
        value = row.value or ""
        fuller = (name for name in names if value[:1] == NAME and value[1:] in name)
        found[row.number] = next(fuller, value)
    return found


def _rank(row: Asked) -> tuple[int, str, int]:
    """The fuller answer; of equal ones whichever, the same in any order."""
    return min(row.answer_length, QUALITY_UNITS), row.key, -row.number


def _near_groups(rows: list[Asked]) -> Iterator[list[Asked]]:
    """Groups of rows that ask nearly the same."""
    above = list(range(len(rows)))

    def root(place: int) -> int:
        while above[place] != place:
            above[place] = above[above[place]]
            place = above[place]
        return place

    for left, right in _candidates(rows):
        one, other = root(left), root(right)
        if one != other and nearly_same(rows[left], rows[right]):
            above[max(one, other)] = min(one, other)
    groups: dict[int, list[Asked]] = defaultdict(list)
    for place in range(len(rows)):
        groups[root(place)].append(rows[place])
    yield from (members for members in groups.values() if len(members) > 1)


def _candidates(rows: list[Asked]) -> Iterator[tuple[int, int]]:
    """Pairs that share a band of their signatures, and enough of the whole signatures."""
    if len(rows) < 2:
        return
    minhash.algorithm("characters", PLACES)  # says so where the package is missing
    signed = np.concatenate([_signatures(rows[start : start + GROUP]) for start in range(0, len(rows), GROUP)])
    keys = minhash.band_keys(signed, ROWS)
    seen = set[tuple[int, int]]()
    for band in range(keys.shape[1]):
        order = np.lexsort((np.arange(len(rows)), keys[:, band]))
        values = keys[order, band]
        for step in range(1, MOST_IN_BAND + 1):  # each with the one so many places behind it
            same = np.flatnonzero(values[step:] == values[:-step]) if step < len(values) else values[:0]
            if not len(same):
                break
            left, right = order[same], order[same + step]
            alike = (signed[left] == signed[right]).mean(1) >= LEAST_ALIKE
            for pair in zip(left[alike].tolist(), right[alike].tolist(), strict=True):
                if pair not in seen:
                    seen.add(pair)
                    yield pair


def _signatures(rows: Sequence[Asked]) -> np.ndarray:
    numbers, starts = shingles(folding.fold([row.text for row in rows]))
    return minhash.signatures(numbers, starts, PLACES)


def nearly_same(one: Asked, other: Asked) -> bool:
    """Whether two rows ask nearly the same and are answered alike."""
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError:
        raise missing_extra("rapidfuzz", "data") from None
    if one.numbers != other.numbers:
        return False
    left, right = one.units.tolist(), other.units.tolist()
    if Levenshtein.normalized_similarity(left, right, score_cutoff=SIMILAR) < SIMILAR:
        return False
    most = max(PIECE, PIECE_SHARE * max(len(left), len(right)))
    for step in Levenshtein.opcodes(left, right):
        if step.tag == "equal":
            continue
        gone, come = left[step.src_start : step.src_end], right[step.dest_start : step.dest_end]
        if max(len(gone), len(come)) > most or not _negations().isdisjoint((*gone, *come)):
            return False
    both = np.union1d(one.answer_units, other.answer_units)[:SAMPLE]
    common = np.isin(both, one.answer_units) & np.isin(both, other.answer_units)
    return not len(both) or common.sum() >= ANSWERS * len(both)


@cache
def _negations() -> frozenset[int]:
    return frozenset(units_of(NEGATIONS).hashes.astype(np.uint32).tolist())


def _value(question: str, answer: str, units: list[str]) -> str | None:
    """What a short answer to a closed question says; None where answers may differ and all be right."""
    if not CLOSED.search(question) or not units:
        return None
    first = units[0]
    numbers = VALUE.findall(answer)
    if any(c.isdigit() for c in question) and numbers:
        return (
            numbers[-1].replace(",", "").rstrip("0").rstrip(".")
            if "." in numbers[-1]
            else numbers[-1].replace(",", "")
        )
    if first in YES | NO and re.match(
        r"(?:is|are|was|were|do|does|did|can|true)\b|.*(?:吗|是否|是不是|判断)", question.casefold()
    ):
        return "no" if first in NO else "yes"
    return NAME + "".join(units) if len(units) <= SHORT_ANSWER else None


def _text_hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little")
