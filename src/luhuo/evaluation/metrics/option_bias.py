"""CircularEval (MMBench, Liu et al. 2023) and the pull of option letters.

A question is asked once for each rotation of its options. It counts as known only where every rotation is answered
rightly. A reply in which no option is found goes to a judge that picks one; where there is none, or it fails too, one
is drawn at random by seed, and that is noted, since a silent draw hides what the model cannot say.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from luhuo.core.seeds import derive_seed
from luhuo.verify.extraction import choice_letter

How = Literal["rule", "judge", "random"]
Judge = Callable[[str, Sequence[str], str], str | None]
"""(question, options, reply) to the letter of the option that the reply means, or None."""


@dataclass(frozen=True)
class Rotation:
    """One asking: option k of it is option `(k + shift) % n` of the item, and the right letter is `gold`."""

    shift: int
    options: tuple[str, ...]
    gold: str


@dataclass(frozen=True)
class Pick:
    """The letter a reply was taken for, and by whom."""

    letter: str
    how: How


@dataclass(frozen=True)
class Circular:
    """A set: `plain` is the accuracy of the unrotated asking, `single` over all askings, `circular` where all
    rotations are right, `vote` where most are; `by_count[j]` where at least j are right. `picked` counts who found
    the letters, `letters` is the share of answers by letter, `spread` the standard deviation of recall by gold
    letter, in points (RStd, Zheng et al. 2024)."""

    plain: float
    single: float
    circular: float
    vote: float
    by_count: dict[int, float]
    picked: dict[How, int]
    letters: dict[str, float]
    gold_letters: dict[str, float]
    recall: dict[str, float]
    spread: float
    n: int


def letter(place: int) -> str:
    """A, B, C …"""
    return chr(ord("A") + place)


def rotations(options: Sequence[str], gold: int) -> list[Rotation]:
    """All rotations of an item's options; the first one is the item as it is."""
    count = len(options)
    return [
        Rotation(
            shift, tuple(options[(place + shift) % count] for place in range(count)), letter((gold - shift) % count)
        )
        for shift in range(count)
    ]


def pick(question: str, rotation: Rotation, reply: str, seed: int, judge: Judge | None = None) -> Pick:
    """The option of a reply: by rule, else by the judge, else at random (fixed by the seed, the question and the
    rotation)."""
    by_rule = choice_letter(reply, list(rotation.options))
    if by_rule is not None:
        return Pick(by_rule, "rule")
    known = [letter(place) for place in range(len(rotation.options))]
    judged = judge(question, rotation.options, reply) if judge else None
    if judged in known:
        return Pick(judged, "judge")
    draw = random.Random(derive_seed(seed, "option", question, str(rotation.shift)))
    return Pick(draw.choice(known), "random")


def circular(items: Sequence[Sequence[tuple[Rotation, Pick]]]) -> Circular:
    """Judge a set; each item is all its rotations, the unrotated one first. Raises ValueError for an empty set."""
    if not items or not all(items):
        raise ValueError("there are no items")
    right = [[picked.letter == rotation.gold for rotation, picked in item] for item in items]
    pairs = [pair for item in items for pair in item]
    answered = Counter(picked.letter for _, picked in pairs)
    golds = Counter(rotation.gold for rotation, _ in pairs)
    hits = Counter(rotation.gold for rotation, picked in pairs if picked.letter == rotation.gold)
    recall = {name: hits[name] / golds[name] for name in sorted(golds)}
    picked_by = Counter(picked.how for _, picked in pairs)
    return Circular(
        plain=float(np.mean([row[0] for row in right])),
        single=float(np.mean([one for row in right for one in row])),
        circular=float(np.mean([all(row) for row in right])),
        vote=float(np.mean([_vote(item) for item in items])),
        by_count={j: float(np.mean([sum(row) >= j for row in right])) for j in range(1, max(map(len, right)) + 1)},
        picked={"rule": picked_by["rule"], "judge": picked_by["judge"], "random": picked_by["random"]},
        letters={name: answered[name] / len(pairs) for name in sorted(answered | golds)},
        gold_letters={name: golds[name] / len(pairs) for name in sorted(golds)},
        recall=recall,
        spread=100 * float(np.std(list(recall.values()))),
        n=len(items),
    )


def _vote(item: Sequence[tuple[Rotation, Pick]]) -> bool:
    """Whether the option named most often, whatever its letter was, is the right one; a tie is no vote for it."""
    count = len(item[0][0].options)
    votes = Counter((ord(picked.letter) - ord("A") + rotation.shift) % count for rotation, picked in item)
    gold = (ord(item[0][0].gold) - ord("A") + item[0][0].shift) % count
    return votes[gold] > max((number for option, number in votes.items() if option != gold), default=0)
