"""A character n-gram language model with interpolated Kneser-Ney smoothing, as sorted arrays.

Kneser and Ney 1995, in the interpolated form of Chen and Goodman 1998 (section 2.7), one discount an order:

    p(w | h) = max(c(h w) - D, 0) / c(h) + g(h) p(w | h')         h' is h without its oldest character

where c counts occurrences for the highest order and different left neighbours for the others, D = n1 / (n1 + 2 n2) and
g(h) is what the discounts leave. What is pruned gives its share to g(h), so probabilities still add up to one.

An n-gram is one 64-bit number, `64 // order` bits a character: taking a character off either end is a shift or a mask,
nothing collides, and a table is a sorted array. Values are kept as whole 256ths of a bit, so sums are exact.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from luhuo.core.atomic import atomic_path
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.corpus.signals.batch import Batch, Hashes, Integers
from luhuo.corpus.signals.characters import SPACE, Codes, Mask

FORMAT = "luhuo-char-ngram-1"
UNKNOWN, BORDER = 0, 1
"""Numbers of a character that is not in the vocabulary, and of what stands before a text."""
BIT = 256
"""Values are counted in this part of a bit."""
STRANGER_BITS = 14
"""What an unknown character costs beyond its number: which of some 16,000 it is."""
SPARE = 1 << 23
"""n-grams that are held before they are counted together."""

Ids = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class CharNgram:
    """The model: `keys[n]` are the n-grams kept (sorted), `bits[n]` what their last character costs after the others,
    `leave[n]` what it costs to go on from them with a shorter history (both in 256ths of a bit)."""

    lang: str
    order: int
    characters: npt.NDArray[np.uint32]
    keys: dict[int, Hashes]
    bits: dict[int, npt.NDArray[np.int32]]
    leave: dict[int, npt.NDArray[np.int32]]

    @property
    def width(self) -> int:
        """Bits of a character in a key."""
        return 64 // self.order

    def ids(self, batch: Batch) -> tuple[Ids, Integers]:
        """Numbers of the characters of a batch, every text behind `order - 1` borders, and where each text begins."""
        table = np.zeros(0x110000, np.uint16)
        table[self.characters] = np.arange(2, len(self.characters) + 2)
        return numbered(batch, table, self.order)

    def costs(self, ids: Ids) -> npt.NDArray[np.int32]:
        """What each character costs, in 256ths of a bit; 0 for borders."""
        keys = _keys(ids, self.order, self.width)
        cost = np.zeros(len(ids), np.int32)
        open_ = np.flatnonzero(ids != BORDER)
        for n in range(self.order, 1, -1):
            found, places = _find(self.keys[n], keys[n][open_])
            cost[open_[found]] += self.bits[n][places[found]]
            open_ = open_[~found]
            history = n - 1
            known, places = (
                _find(self.keys[history], keys[history][open_ - 1]) if len(open_) else (found[:0], places[:0])
            )
            cost[open_[known]] += self.leave[history][places[known]]
        places = np.searchsorted(self.keys[1], ids[open_])
        cost[open_] += self.bits[1][places]
        return cost + np.where(ids == UNKNOWN, STRANGER_BITS * BIT, 0).astype(np.int32)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, the same bytes for the same model."""
        tensors: dict[str, Any] = {"characters": self.characters}
        for n in range(1, self.order + 1):
            tensors |= {f"keys.{n}": self.keys[n], f"bits.{n}": self.bits[n], f"leave.{n}": self.leave[n]}
        # one entry: safetensors writes several in any order
        told = {"luhuo": json.dumps({"format": FORMAT, "lang": self.lang, "order": self.order})}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=told)

    @classmethod
    def load(cls, path: str | Path) -> CharNgram:
        """Read a model. Raises `LuhuoError` if it is none."""
        try:
            with safe_open(path, framework="numpy") as file:
                told = json.loads((file.metadata() or {}).get("luhuo", "{}"))
                if told.get("format") != FORMAT:
                    raise _no_model(path, told.get("format"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            order = told["order"]
            if order not in range(2, 7):
                raise _no_model(path, f"order {order}")
            parts = [{n: tensors[f"{part}.{n}"] for n in range(1, order + 1)} for part in ("keys", "bits", "leave")]
            model = cls(str(told["lang"]), order, tensors["characters"], *parts)
            model._check(path)
            return model
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise _no_model(path, error) from None

    def _check(self, path: str | Path) -> None:
        """Refuse tables that scoring cannot rely on: a file may hold anything."""
        codes = self.characters
        if (
            codes.dtype != np.uint32
            or codes.ndim != 1
            or len(codes) > (1 << self.width) - 2
            or (codes > 0x10FFFF).any()
        ):
            raise _no_model(path, "characters")
        if len(self.keys[1]) != len(codes) + 2:
            raise _no_model(path, "keys.1")
        for n in range(1, self.order + 1):
            keys, bits, leave = self.keys[n], self.bits[n], self.leave[n]
            kinds = keys.dtype == np.uint64 and bits.dtype == leave.dtype == np.int32
            if not (kinds and keys.ndim == 1 and len(keys) and keys.shape == bits.shape == leave.shape):
                raise _no_model(path, f"keys.{n}")
            if (keys[1:] <= keys[:-1]).any() or (n == 1 and keys[-1] != len(keys) - 1):
                raise _no_model(path, f"keys.{n}")


def _no_model(path: str | Path, found: object) -> LuhuoError:
    return LuhuoError(
        tr("This is not a character n-gram model.", "这不是字符 n-gram 模型。"),
        expected=FORMAT,
        found=found,
        where=path,
        fix=tr("Train one with `luhuo ngram-lm`.", "请用 `luhuo ngram-lm` 训练一个。"),
    )


def numbered(batch: Batch, table: npt.NDArray[np.uint16], order: int) -> tuple[Ids, Integers]:
    """The numbers of a batch's folded characters, blanks in a row as one; see `CharNgram.ids`."""
    codes, blank = folded(batch)
    keep = ~blank
    keep[1:] |= ~blank[:-1]
    keep[batch.ends] = False
    kept = np.flatnonzero(keep)
    first = np.searchsorted(kept, batch.starts)
    ids = np.full(len(kept) + (order - 1) * batch.count, BORDER, np.uint64)
    shift = np.repeat(np.arange(1, batch.count + 1) * (order - 1), np.diff(np.concatenate((first, [len(kept)]))))
    ids[np.arange(len(kept)) + shift] = table[codes[kept]]
    return ids, first + np.arange(batch.count) * (order - 1)


def folded(batch: Batch) -> tuple[Codes, Mask]:
    """The codes of a batch with capitals small, every digit 0 and every blank a space; and which are blanks."""
    codes = batch.lower.copy()
    codes[(codes - np.uint32(ord("0"))) < np.uint32(10)] = ord("0")
    blank = batch.of_kind(SPACE)
    codes[blank] = ord(" ")
    return codes, blank


def _keys(ids: Ids, order: int, width: int) -> dict[int, Hashes]:
    """n -> the n-gram that ends at each place (where a text has not enough before it, borders)."""
    keys = {1: ids}
    for n in range(2, order + 1):
        keys[n] = ids.copy()
        keys[n][1:] |= keys[n - 1][:-1] << np.uint64(width)
    return keys


def _find(table: Hashes, wanted: Hashes) -> tuple[npt.NDArray[np.bool_], Integers]:
    """Whether each key is in a sorted table, and where. They are looked up in order: neighbours share the cache."""
    order = np.argsort(wanted)
    places = np.empty(len(wanted), np.int64)
    places[order] = np.searchsorted(table, wanted[order])
    places = np.minimum(places, len(table) - 1)
    return table[places] == wanted, places


class Trainer:
    """Counts texts, then makes the model. The same texts in any order give the same model."""

    def __init__(self, lang: str, order: int, characters: Sequence[int]) -> None:
        self.lang, self.order, self.width = lang, order, 64 // order
        most = (1 << self.width) - 2
        self.characters = np.array(sorted(characters)[:most], np.uint32)
        self._table = np.zeros(0x110000, np.uint16)
        self._table[self.characters] = np.arange(2, len(self.characters) + 2)
        self._held: list[Hashes] = []
        self._size = 0
        self.keys, self.counts = np.zeros(0, np.uint64), np.zeros(0, np.int64)

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        ids, _ = numbered(batch, self._table, self.order)
        keys = _keys(ids, self.order, self.width)[self.order][ids != BORDER]
        self._held.append(keys)
        self._size += len(keys)
        if self._size > SPARE:
            self._settle()

    def _settle(self) -> None:
        fresh, times = np.unique(np.concatenate([np.zeros(0, np.uint64), *self._held]), return_counts=True)
        self.keys, self.counts = _summed(
            np.concatenate((self.keys, fresh)), np.concatenate((self.counts, times.astype(np.int64)))
        )
        self._held, self._size = [], 0

    def model(self, size: int) -> CharNgram:
        """The model with about `size` n-grams of each order: those seen most. Raises `LuhuoError` without text."""
        self._settle()
        if not len(self.keys):
            raise LuhuoError(tr("There is no text to count.", "没有可统计的文本。"), expected=self.lang)
        counted = {self.order: (self.keys, self.counts)}
        for n in range(self.order - 1, 0, -1):  # different left neighbours of each shorter n-gram
            longer = counted[n + 1][0]
            shorter = longer & np.uint64((1 << (n * self.width)) - 1)
            counted[n] = _summed(shorter, np.ones(len(longer), np.int64))
        kept = self._kept(counted, size)
        return self._smoothed(counted, kept)

    def _kept(self, counted: dict[int, tuple[Hashes, Integers]], size: int) -> dict[int, npt.NDArray[np.bool_]]:
        """Which n-grams stay: the most frequent, and whatever a longer one that stays begins with."""
        kept: dict[int, npt.NDArray[np.bool_]] = {}
        for n in range(self.order, 1, -1):
            keys, counts = counted[n]
            least = np.partition(counts, len(counts) - size)[len(counts) - size] if len(counts) > size else 1
            stays = counts >= least
            if stays.sum() > 2 * size:  # too many are as rare as the last
                stays = counts > least
            if n < self.order:
                longer = counted[n + 1][0][kept[n + 1]] >> np.uint64(self.width)
                found, places = _find(keys, longer)
                stays[places[found]] = True
            kept[n] = stays
        return kept

    def _smoothed(
        self, counted: dict[int, tuple[Hashes, Integers]], kept: dict[int, npt.NDArray[np.bool_]]
    ) -> CharNgram:
        size = len(self.characters) + 2
        keys: dict[int, Hashes] = {1: np.arange(size, dtype=np.uint64)}
        probability: dict[int, npt.NDArray[np.float64]] = {1: self._unigrams(counted[1], size)}
        leave: dict[int, npt.NDArray[np.float64]] = {1: np.ones(size)}
        for n in range(2, self.order + 1):
            every, counts = counted[n]
            once, twice = int((counts == 1).sum()), int((counts == 2).sum())
            discount = once / (once + 2 * twice) if once else 0.5
            history = every >> np.uint64(self.width)  # sorted, as the keys are
            starts = np.flatnonzero(np.concatenate(([True], history[1:] != history[:-1])))
            sizes = np.diff(np.concatenate((starts, [len(every)])))
            total = np.add.reduceat(counts, starts)
            direct = np.where(kept[n], counts - discount, 0.0) / np.repeat(total, sizes)
            left = 1.0 - np.add.reduceat(direct, starts)
            there, places = _find(keys[n - 1], history[starts])
            leave[n - 1][places[there]] = left[there]
            stays = kept[n]
            lower = self._lower(keys, probability, leave, every[stays], n)
            keys[n] = every[stays]
            probability[n] = direct[stays] + np.repeat(left, sizes)[stays] * lower
            leave[n] = np.ones(len(keys[n]))
        bits, left_bits = ({n: _bits(table[n]) for n in keys} for table in (probability, leave))
        return CharNgram(self.lang, self.order, self.characters, keys, bits, left_bits)

    def _unigrams(self, counted: tuple[Hashes, Integers], size: int) -> npt.NDArray[np.float64]:
        counts = np.ones(size)  # every character may come
        counts[counted[0].astype(np.int64)] += counted[1]
        counts[BORDER] = 0.5
        return counts / counts.sum()

    def _lower(
        self,
        keys: dict[int, Hashes],
        probability: dict[int, npt.NDArray[np.float64]],
        leave: dict[int, npt.NDArray[np.float64]],
        grams: Hashes,
        n: int,
    ) -> npt.NDArray[np.float64]:
        """p(w | h') of n-grams from the orders below n."""
        weight, found_p = np.ones(len(grams)), np.zeros(len(grams))
        open_ = np.arange(len(grams))
        for shorter in range(n - 1, 0, -1):
            part = grams[open_] & np.uint64((1 << (shorter * self.width)) - 1)
            found, places = _find(keys[shorter], part)
            found_p[open_[found]] = weight[open_[found]] * probability[shorter][places[found]]
            if shorter > 1:
                known, places = _find(keys[shorter - 1], part >> np.uint64(self.width))
                weight[open_[known]] *= leave[shorter - 1][places[known]]
            open_ = open_[~found]
        return found_p


def _summed(keys: Hashes, counts: Integers) -> tuple[Hashes, Integers]:
    """Each key once, sorted, with the sum of its counts."""
    if not len(keys):
        return keys, counts
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order]
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    return keys[starts], np.add.reduceat(counts, starts)


def _bits(probability: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    return np.round(-np.log2(np.clip(probability, 1e-9, 1.0)) * BIT).astype(np.int32)


def frequent_characters(batches: Iterable[Batch], order: int) -> list[int]:
    """The most frequent characters (small letters) that a key of `order` characters has room for."""
    counts: Counter[int] = Counter()
    for batch in batches:
        codes, times = np.unique(folded(batch)[0], return_counts=True)
        counts.update(dict(zip(codes.tolist(), times.tolist(), strict=True)))
    most = (1 << (64 // order)) - 2
    ranked = sorted(counts, key=lambda code: (-counts[code], code))
    return sorted(ranked[:most])
