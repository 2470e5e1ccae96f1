"""The parts of a benchmark's items as units and seeds, for many items at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from luhuo.corpus.decontaminate.items import Item
from luhuo.corpus.decontaminate.ngrams import Hashes, gram_hashes, joined, run_hashes, units_of
from luhuo.corpus.decontaminate.rules import Rules

WORD_SEED, HAN_SEED = 4, 6
"""Units of a seed that begins with a word, and with a Han character."""
SHORTEST = 8
"""Units below which a part is too short to be told from chance."""
DIFFERENT = 7
"""Different units below which a part, a formula say, tells nothing."""
TELLING, LEAST_LENGTH = 5, 10
"""Units that are more than a number or a letter, and units, below which nothing but the whole part is evidence."""
MOST_AGAIN = 4
"""Times that a seed of one part is kept: a part that repeats itself is not to be compared with itself everywhere."""
BATCH = 2000
"""Items whose parts are taken apart in one go."""

PartName = Literal["question", "answer", "context"]


@dataclass(frozen=True)
class Part:
    """What is looked for: a part of an item, or of several that share it (a passage with many questions)."""

    benchmark: str
    items: tuple[str, ...]
    name: PartName
    length: int
    """Units."""
    telling: int
    """Units that are covered by seeds which are evidence."""
    whole: int
    """The hash of all units if nothing less than all is evidence, else 0."""


@dataclass(frozen=True)
class Collected:
    """The parts of one benchmark. `seeds`, `owners` (numbers of parts) and `places` (units in them) go together, as do
    `units` (the hashes of all units of all parts, of which the low half is kept) and `han`."""

    parts: list[Part]
    seeds: Hashes
    owners: np.ndarray
    places: np.ndarray
    units: np.ndarray
    han: np.ndarray
    counts: dict[str, int]


def collect(name: str, items: Iterable[Item], rules: Rules) -> Collected:
    """The parts of a benchmark's items. Parts with equal units are one; seeds that many parts share are left out."""
    gathered = _Gathered()
    for batch in _batches(items):
        gathered.add(batch)
    return gathered.collected(name, rules)


def parts_of(item: Item) -> Iterator[tuple[PartName, str]]:
    """The parts of an item that are looked for. A short question goes with its options, plain and lettered, and with
    its answer."""
    if item.context:
        yield "context", item.context
    if item.question:
        yield "question", item.question
        if item.options and len(item.question) < 100:
            lettered = (f"{letter}. {option}" for letter, option in zip("ABCDEFGHIJ", item.options, strict=False))
            yield "question", "\n".join((item.question, *item.options))
            yield "question", "\n".join((item.question, *lettered))
        if item.answer and len(item.question) < 100:
            yield "question", f"{item.question}\n{item.answer}"
    if item.answer:
        yield "answer", item.answer


def seed_hashes(hashes: Hashes, han: np.ndarray) -> Hashes:
    """The hash of the seed that begins at each unit; 0 where the text ends before the seed does."""
    found = np.zeros(len(hashes), dtype=np.uint64)
    of_words, of_han = gram_hashes(hashes, WORD_SEED), gram_hashes(hashes, HAN_SEED)
    found[: len(of_words)] = of_words
    found[: len(of_han)] = np.where(han[: len(of_han)], of_han, found[: len(of_han)])
    found[len(of_han) :][han[len(of_han) :]] = 0
    return found


def coverage(starts: np.ndarray, sizes: np.ndarray, length: int) -> np.ndarray:
    """(length,) bool: which units lie in one of the runs."""
    begins = np.bincount(starts, minlength=length + 1)
    ends = np.bincount(np.minimum(starts + sizes, length), minlength=length + 1)
    return np.cumsum(begins[:length] - ends[:length]) > 0


class _Gathered:
    """Units of parts, one array after another."""

    def __init__(self) -> None:
        self.counts = {"items": 0, "parts": 0, "too_short": 0}
        self._known: dict[tuple[str, int], int] = {}
        self._names: list[PartName] = []
        self._items: list[dict[str, None]] = []
        self._wholes: list[int] = []
        self._hashes: list[Hashes] = []
        self._han: list[np.ndarray] = []
        self._strong: list[np.ndarray] = []

    def add(self, items: list[Item]) -> None:
        parts = list(_all_parts(items))
        text, begins = joined([text for _, _, text in parts])
        units = units_of(text)
        bounds = np.searchsorted(units.starts, begins[:-1] if parts else begins)
        bounds = np.append(bounds[: len(parts)], len(units))
        lengths = np.diff(bounds)
        filled = lengths > 0
        wholes = np.zeros(len(parts), dtype=np.uint64)
        if filled.any():
            wholes[filled] = run_hashes(units.hashes, np.append(bounds[:-1][filled], len(units)))
        strong = units.han | ((np.diff(units.bounds) > 1) & ~_is_digit(units.folded[units.bounds[:-1]]))
        found = set[str]()
        different = _different(units.hashes, np.repeat(np.arange(len(parts)), lengths), len(parts))
        for number, ((item, name, _), start, end, whole) in enumerate(
            zip(parts, bounds, bounds[1:], wholes.tolist(), strict=False)
        ):
            if end - start < SHORTEST or different[number] < DIFFERENT:
                continue
            found.add(item.id)
            place = self._known.setdefault((name, whole), len(self._names))
            if place == len(self._names):
                self._names.append(name)
                self._items.append({})
                self._wholes.append(whole)
                self._hashes.append(units.hashes[start:end])
                self._han.append(units.han[start:end])
                self._strong.append(strong[start:end])
            self._items[place][item.id] = None
        self.counts["items"] += len(items)
        self.counts["too_short"] += sum(item.id not in found for item in items)

    def collected(self, name: str, rules: Rules) -> Collected:
        self.counts["parts"] = len(self._names)
        if not self._names:
            none = np.zeros(0, dtype=np.uint64)
            return Collected([], none, none, none, none, none, self.counts)
        lengths = np.array([len(hashes) for hashes in self._hashes])
        bounds = np.append(0, np.cumsum(lengths))
        hashes, han = np.concatenate(self._hashes), np.concatenate(self._han)
        owners = np.repeat(np.arange(len(lengths)), lengths)
        sizes = np.where(han, HAN_SEED, WORD_SEED)
        seeds = seed_hashes(hashes, han)
        seeds[np.arange(len(hashes)) + sizes > bounds[owners + 1]] = 0
        seeds[_again(seeds, owners) >= MOST_AGAIN] = 0
        shared = _owners_of_each(seeds, owners)
        kept = (seeds > 0) & (shared <= rules.common)
        covered = coverage(np.flatnonzero(kept), sizes[kept], len(hashes))
        telling = np.add.reduceat(covered.astype(np.int64), bounds[:-1])
        strong = np.add.reduceat((covered & np.concatenate(self._strong)).astype(np.int64), bounds[:-1])
        whole = (lengths < LEAST_LENGTH) | (strong < TELLING) | (telling < lengths // 3)
        kept &= ~whole[owners]
        kept[_rarest(seeds, shared, owners)[whole]] = True
        kept &= seeds > 0
        parts = [
            Part(name, tuple(items), part, int(length), int(tells), hash_ if alone else 0)
            for items, part, length, tells, hash_, alone in zip(
                self._items, self._names, lengths, telling, self._wholes, whole, strict=True
            )
        ]
        places = np.arange(len(hashes)) - bounds[owners]
        return Collected(parts, seeds[kept], owners[kept], places[kept], hashes.astype(np.uint32), han, self.counts)


def _all_parts(items: Iterable[Item]) -> Iterator[tuple[Item, PartName, str]]:
    for item in items:
        for name, text in parts_of(item):
            yield item, name, text


def _is_digit(codes: np.ndarray) -> np.ndarray:
    return (codes >= ord("0")) & (codes <= ord("9"))


def _different(hashes: Hashes, owners: np.ndarray, count: int) -> np.ndarray:
    """(count,): how many different hashes each owner has."""
    order = np.lexsort((hashes, owners))
    hashes, owners = hashes[order], owners[order]
    new = np.append(True, (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1]))[: len(hashes)]
    return np.bincount(owners[new], minlength=count)


def _owners_of_each(seeds: Hashes, owners: np.ndarray) -> np.ndarray:
    """In how many parts the seed of each place stands."""
    order = np.argsort(seeds, kind="stable")  # owners stay in order within equal seeds
    seed, owner = seeds[order], owners[order]
    new_seed = np.append(True, seed[1:] != seed[:-1])
    new = new_seed | np.append(True, owner[1:] != owner[:-1])
    group = np.cumsum(new_seed) - 1
    counts = np.bincount(group, weights=new).astype(np.int64)
    found = np.empty(len(seeds), dtype=np.int64)
    found[order] = counts[group]
    return found


def _again(seeds: Hashes, owners: np.ndarray) -> np.ndarray:
    """How often the seed of each place stands earlier in the same part."""
    order = np.lexsort((seeds, owners))
    new = np.append(True, (seeds[order][1:] != seeds[order][:-1]) | (owners[order][1:] != owners[order][:-1]))
    first = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    found = np.empty(len(seeds), dtype=np.int64)
    found[order] = np.arange(len(order)) - first
    return found


def _rarest(seeds: Hashes, shared: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """The place of each part's seed that the fewest parts share."""
    order = np.lexsort((np.where(seeds > 0, shared, np.iinfo(np.int64).max), owners))
    return order[np.append(True, owners[order][1:] != owners[order][:-1])]


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
