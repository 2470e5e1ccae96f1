"""Names composed from inventories, in both languages; each combination belongs to exactly one split.

The split of a name depends only on the name, so worlds of different seeds never leak into each other's tests.
"""

from __future__ import annotations

import random
import zlib
from functools import cache

from luhuo.world import lexicon_people as people
from luhuo.world import lexicon_places as places
from luhuo.world.words import Pair, pairs, syllables

SPLITS = ("train", "valid", "test")


def split_of(name: str) -> str:
    """The split a name (or any held-out combination) belongs to: 8 of 10 train, 1 valid, 1 test."""
    return SPLITS[max(0, zlib.crc32(name.encode()) % 10 - 7)]


def in_split(english: str, split: str) -> bool:
    """Whether the combination belongs to the split."""
    return split_of(english) == split


@cache
def person_names(split: str, gender: str) -> tuple[Pair, ...]:
    """All names of a split: family name first in the Chinese style, given name first in the foreign style."""
    found: dict[str, Pair] = {}
    given = syllables(people.GIVEN[gender])
    # A double name goes with its first half (王巧, 王巧云): no test name is part of a train name.
    singles = [Pair(a.en, a.zh, a.en) for a in given]
    doubles = [
        Pair(a.en + b.en.lower(), a.zh + b.zh, a.en)
        for a in given
        for b in given[::5]
        if a != b and b.en[0] not in "AEOR"
    ]
    for family in syllables(people.SURNAMES):
        for first in (*singles, *doubles[len(family.en) :: 7]):
            if family.en == first.extra or not in_split(f"{family.en} {first.extra}", split):
                continue
            found.setdefault(f"{family.en} {first.en}", Pair(f"{family.en} {first.en}", family.zh + first.zh))
    tails = syllables(people.FOREIGN_TAIL)
    for head in syllables(people.FOREIGN_HEAD):
        for tail in tails:
            for first in syllables(people.FOREIGN_GIVEN[gender])[len(head.en + tail.en) % 4 :: 4]:
                name = f"{first.en} {head.en}{tail.en}"
                if in_split(name, split):
                    found[name] = Pair(name, f"{first.zh}·{head.zh}{tail.zh}")
    return tuple(found.values())


def _compounds(heads: str, tails: str, split: str, en: str, zh: str) -> tuple[Pair, ...]:
    out = []
    for head in pairs(heads):
        for tail in pairs(tails):
            name = en.format(head.en, tail.en)
            if in_split(f"{head.en}+{tail.en}", split):
                out.append(Pair(name, zh.format(head.zh, tail.zh)))
    return tuple(out)


@cache
def town_names(split: str) -> tuple[Pair, ...]:
    """Towns: "Willowbridge" 柳桥镇."""
    return _compounds(places.TOWN_HEAD, places.TOWN_TAIL, split, "{0}{1}", "{0}{1}镇")


@cache
def nature_names(split: str, kind: str) -> tuple[Pair, ...]:
    """Rivers, hills, lakes and schools: "Grey Heron River" 灰鹭河."""
    en, zh = {"river": ("River", "河"), "hill": ("Hill", "山"), "lake": ("Lake", "湖"), "school": ("School", "学校")}[
        kind
    ]
    return _compounds(places.NATURE_HEAD, places.NATURE_TAIL, split, "{0} {1} " + en, "{0}{1}" + zh)


@cache
def country_names(split: str) -> tuple[Pair, ...]:
    """Invented countries: "Velora" 维洛拉."""
    parts = [syllables(t) for t in (places.COUNTRY_HEAD, places.COUNTRY_MID, places.COUNTRY_TAIL)]
    names = [Pair(a.en + b.en + c.en, a.zh + b.zh + c.zh) for a in parts[0] for b in parts[1] for c in parts[2]]
    return tuple(p for p in names if in_split(p.en, split))


def draw(names: tuple[Pair, ...], count: int, rng: random.Random) -> list[Pair]:
    """`count` different names (all of them where there are fewer)."""
    return rng.sample(names, min(count, len(names)))
