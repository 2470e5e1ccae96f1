"""Benchmarks as an index of short runs of their units, and what of them stands in a text, exactly or lightly edited.

A run of four words, or of six Han characters, is a seed. An edit spoils only the seeds it lies in, so that of an item
with 5% of its units changed some 90% are still covered by seeds (the q-gram lemma, Ukkonen 1992). Seeds that lie in
the same order and distance in text and item are put together, what no seed covers is aligned with the text around
them, and how much of the item is there decides. A seed that many items share says nothing of any of them (Brown et al.
2020, appendix C, leave common n-grams out too). What is too short for that is looked for whole. The index holds hashes
and no text: it is no leak itself.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np

from luhuo.core.atomic import atomic_path
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.corpus.decontaminate.align import NOWHERE, placed
from luhuo.corpus.decontaminate.items import Fields, Item, read_items
from luhuo.corpus.decontaminate.ngrams import Lookup, Units, hash_of, joined, units_of
from luhuo.corpus.decontaminate.parts import HAN_SEED, WORD_SEED, Part, PartName, collect, coverage, seed_hashes
from luhuo.corpus.decontaminate.rules import Rules

VERSION = 1
"""Of the file of an index: what an older one holds may mean another thing."""
SHORT = 40
"""Units below which an item is short."""
LEAST_TELLING = 0.4
"""Share of what tells an item that must be covered by seeds for a copy to be looked at more closely."""
DRIFT, DRIFT_SHARE = 8, 0.06
"""Units by which neighbouring seeds of one copy may be shifted against each other: at least, and of the item."""
BATCH_CHARS, OVERLAP_CHARS = 2_000_000, 50_000
"""Characters of texts that are looked at in one go, and that two pieces of a longer text share."""

Way = Literal["exact", "near", "gram"]
"""Every unit in its place; lightly edited; a long run without a change and a good part of the rest."""


@dataclass(frozen=True)
class Hit:
    """A part of an item in a text: how much of it, how, and where, as places in the text."""

    benchmark: str
    items: tuple[str, ...]
    """Several where they share the part: a passage with many questions."""
    part: PartName
    way: Way
    share: float
    start: int
    end: int


class Benchmarks:
    """An index of the items of any number of benchmarks."""

    def __init__(
        self, rules: Rules, parts: Sequence[Part], columns: Mapping[str, np.ndarray], counts: dict[str, Any]
    ) -> None:
        self.rules, self.parts, self.counts = rules, parts, counts
        """`counts`: by benchmark, {"items", "parts", "too_short"}."""
        self._columns = columns
        self._lookup = Lookup(columns["seeds"])
        self._first = np.searchsorted(columns["seeds"], self._lookup.known)
        self._behind = np.append(self._first[1:], len(columns["seeds"]))
        self._lengths = np.array([part.length for part in parts], dtype=np.int64)
        self._offsets = np.append(0, np.cumsum(self._lengths))
        self._least = np.array([self._least_seeds(part) for part in parts], dtype=np.int64)

    @classmethod
    def load(
        cls, places: Mapping[str, str | Path], fields: Mapping[str, Fields] | None = None, rules: Rules | None = None
    ) -> Benchmarks:
        """The index of files or folders by name of the benchmark. Raises `LuhuoError` where there are no items."""
        named = fields or {}
        return cls.of({name: read_items(place, named.get(name)) for name, place in places.items()}, rules)

    @classmethod
    def of(cls, items: Mapping[str, Iterable[Item]], rules: Rules | None = None) -> Benchmarks:
        """The index of items by name of the benchmark."""
        rules = rules or Rules()
        found = [collect(name, members, rules) for name, members in items.items()]
        parts = [part for one in found for part in one.parts]
        base = np.cumsum([0, *(len(one.parts) for one in found)])
        seeds = np.concatenate([one.seeds for one in found] or [np.zeros(0, dtype=np.uint64)])
        order = np.argsort(seeds, kind="stable")
        columns = {
            "seeds": seeds[order],
            "parts": _together([one.owners + first for one, first in zip(found, base, strict=False)], np.uint32)[
                order
            ],
            "places": _together([one.places for one in found], np.uint32)[order],
            "units": _together([one.units for one in found], np.uint32),
            "han": _together([one.han for one in found], np.bool_),
        }
        return cls(rules, parts, columns, {name: one.counts for name, one in zip(items, found, strict=True)})

    def hits(self, texts: Sequence[str]) -> list[dict[str, list[str]]]:
        """Of each text, which items of which benchmarks stand in it."""
        found = []
        for hits in self.look(texts):
            by_name: dict[str, dict[str, None]] = {}
            for hit in hits:
                by_name.setdefault(hit.benchmark, {}).update(dict.fromkeys(hit.items))
            found.append({name: sorted(by_name[name]) for name in sorted(by_name)})
        return found

    def look(self, texts: Sequence[str]) -> list[list[Hit]]:
        """Of each text, what parts of items stand in it, in their order; a part once, where it is fullest."""
        best: list[dict[int, Hit]] = [{} for _ in texts]
        for batch in _batches(texts):
            whole, begins = joined([piece for _, _, piece in batch])
            for part, hit in self._copies(units_of(whole), begins):
                place = int(np.searchsorted(begins, hit.start, "right")) - 1
                number, offset, _ = batch[place]
                shift = offset - int(begins[place])
                hit = replace(hit, start=hit.start + shift, end=hit.end + shift)
                known = best[number].get(part)
                if known is None or (hit.share, -hit.start) > (known.share, -known.start):
                    best[number][part] = hit
        order = operator.attrgetter("start", "benchmark", "items", "part")
        return [sorted(hits.values(), key=order) for hits in best]

    def save(self, path: str | Path) -> None:
        """Write the index to one file."""
        head = {
            "version": VERSION,
            "rules": self.rules.model_dump(),
            "counts": self.counts,
            "parts": [astuple(part) for part in self.parts],
        }
        text = np.frombuffer(json.dumps(head, ensure_ascii=False).encode(), dtype=np.uint8)
        with atomic_path(path) as temporary, temporary.open("wb") as handle:
            np.savez(handle, allow_pickle=False, head=text, **self._columns)

    @classmethod
    def open(cls, path: str | Path) -> Benchmarks:
        """The index that `save` wrote. Raises `LuhuoError` for another file, and one of another version."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            head = json.loads(arrays.pop("head").tobytes())
            version = head["version"]
        except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
            raise LuhuoError(
                tr("This is no index of benchmarks.", "这不是评测题索引文件。"), found=str(error), where=path
            ) from None
        if version != VERSION:
            raise LuhuoError(
                tr("The index was written by another version.", "该索引由其他版本写出。"),
                expected=VERSION,
                found=version,
                where=path,
                fix=tr("Make it again from the benchmarks.", "请用评测数据重新生成。"),
            )
        parts = [Part(name, tuple(items), *rest) for name, items, *rest in head["parts"]]
        return cls(Rules.parse(head["rules"]), parts, arrays, head["counts"])

    def _least_seeds(self, part: Part) -> int:
        """Fewer seeds than this cannot cover enough."""
        if part.whole:
            return 1
        return max(2, int(LEAST_TELLING * part.telling / HAN_SEED))

    def _copies(self, units: Units, begins: np.ndarray) -> Iterator[tuple[int, Hit]]:
        """(number of the part, hit with places in the joined text) of everything that is a leak."""
        places, numbers = self._lookup.find(seed_hashes(units.hashes, units.han))
        if not len(places):
            return
        counts = self._behind[numbers] - self._first[numbers]
        at = np.repeat(places, counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = np.repeat(self._first[numbers], counts) + within
        parts = self._columns["parts"][rows].astype(np.int64)
        inside = self._columns["places"][rows].astype(np.int64)
        texts = np.searchsorted(begins, units.starts[at], "right")
        shift = at - inside
        order = np.lexsort((shift, parts, texts))
        texts, parts, shift, at, rows = texts[order], parts[order], shift[order], at[order], rows[order]
        drift = np.maximum(DRIFT, (self._lengths[parts] * DRIFT_SHARE).astype(np.int64))
        new = np.ones(len(order), dtype=np.bool_)
        new[1:] = (texts[1:] != texts[:-1]) | (parts[1:] != parts[:-1]) | (shift[1:] - shift[:-1] > drift[1:])
        first = np.flatnonzero(new)
        behind = np.append(first[1:], len(order))
        enough = behind - first >= self._least[parts[first]]
        for start, end in zip(first[enough].tolist(), behind[enough].tolist(), strict=True):
            number = int(parts[start])
            hit = self._judged(number, units, begins, at[start:end], rows[start:end])
            if hit is not None:
                yield number, hit

    def _judged(self, number: int, units: Units, begins: np.ndarray, at: np.ndarray, rows: np.ndarray) -> Hit | None:
        """The hit that the seeds of one copy make. `at`: their units in the text; `rows`: what they are."""
        part = self.parts[number]
        inside = self._columns["places"][rows].astype(np.int64)
        if part.whole:
            return self._whole(part, units, begins, at - inside)
        mine = slice(self._offsets[number], self._offsets[number + 1])
        sizes = np.where(self._columns["han"][mine][inside], HAN_SEED, WORD_SEED)
        covered = coverage(inside, sizes, part.length)
        if covered.sum() < LEAST_TELLING * part.telling:
            return None
        least = _least_share(self.rules.share, part.length)
        text = int(np.searchsorted(begins, units.starts[at[0]], "right"))
        low, high = np.searchsorted(units.starts, begins[text - 1 : text + 1]).tolist()
        found = placed(self._columns["units"][mine], units.hashes[low:high], covered, at - low, inside)
        same = found != NOWHERE
        share = int(same.sum()) / part.length
        run, run_at = _longest_run(found)
        size = self.rules.han if units.han[low + run_at] else self.rules.words
        way: Way
        if run == part.length:
            way = "exact"
        elif share >= least:
            way = "near"
        elif run >= size and share >= self.rules.gram_share:
            way = "gram"
        else:
            return None
        return self._hit(part, way, share, units, low + int(found[same].min()), low + int(found.max()))

    def _whole(self, part: Part, units: Units, begins: np.ndarray, starts: np.ndarray) -> Hit | None:
        for start in np.unique(starts).tolist():
            end = start + part.length
            if start < 0 or end > len(units) or hash_of(units.hashes[start:end]) != part.whole:
                continue
            limits = np.searchsorted(begins, [units.starts[start], units.starts[end - 1]], "right")
            if limits[0] == limits[1]:
                return self._hit(part, "exact", 1.0, units, start, end - 1)
        return None

    def _hit(self, part: Part, way: Way, share: float, units: Units, start: int, last: int) -> Hit:
        begin, end = int(units.starts[start]), int(units.ends[last])
        return Hit(part.benchmark, part.items, part.name, way, round(share, 4), begin, end)


def _least_share(share: float, length: int) -> float:
    """Of a short item more must be there: a fifth of it missing is no light edit but another item."""
    return share + (1 - share) / 2 * max(0.0, 1 - length / SHORT)


def _longest_run(found: np.ndarray) -> tuple[int, int]:
    """Units of the longest piece of the item that stands in the text unchanged, and where there it begins."""
    joint = (np.diff(found) == 1) & (found[:-1] != NOWHERE)
    borders = np.flatnonzero(np.diff(joint, prepend=False, append=False))
    lengths = borders[1::2] - borders[::2]
    best = int(lengths.argmax())  # a seed is a run, so that there is one
    return int(lengths[best]) + 1, int(found[borders[::2][best]])


def _together(arrays: list[np.ndarray], kind: Any) -> np.ndarray:
    return np.concatenate(arrays or [np.zeros(0)]).astype(kind)


def _batches(texts: Sequence[str]) -> Iterator[list[tuple[int, int, str]]]:
    """(number of the text, where in it the piece begins, piece) in groups of so many characters; pieces of one long
    text overlap, so that memory is bounded and an item at a border is in one of them."""
    batch: list[tuple[int, int, str]] = []
    chars = 0
    for number, text in enumerate(texts):
        for start in range(0, max(1, len(text) - OVERLAP_CHARS), BATCH_CHARS - OVERLAP_CHARS):
            piece = text[start : start + BATCH_CHARS]
            if batch and chars + len(piece) > BATCH_CHARS:
                yield batch
                batch, chars = [], 0
            batch.append((number, start, piece))
            chars += len(piece) + 1
    if batch:
        yield batch
