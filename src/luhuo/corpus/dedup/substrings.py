"""Exactly repeated spans of many tokens, wherever they begin and end (Lee et al. 2022), without a suffix array.

A span of T tokens is looked up by its hash. Hashing all T-token windows of a corpus would take more room than the
corpus; so windows that cannot be repeated are left out first, by winnowing (Schleimer, Wilkerson and Aiken 2003): of
each w = T - k + 1 neighbouring windows of k = T / 2 tokens the one with the smallest hash is a fingerprint. Equal
T-token windows have equal fingerprints, so a window without a fingerprint that occurs twice is not repeated. What is
found is exactly what a table of all windows finds; tokens are words, or characters of scripts without blanks, in their
looser form. Windows are held equal if two 64-bit hashes are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luhuo.corpus.dedup import folding, shingles
from luhuo.corpus.dedup.clusters import Clusters
from luhuo.corpus.dedup.ranges import group_starts
from luhuo.corpus.dedup.records import Batch, batches
from luhuo.corpus.dedup.shingles import U64, Tokens, mix
from luhuo.corpus.dedup.spans import Spans, no_spans, write_spans
from luhuo.corpus.dedup.stages import DeduplicateStage
from luhuo.corpus.dedup.tables import read_columns, write_columns
from luhuo.corpus.factory.executors import Outcome, Unit
from luhuo.corpus.factory.watch import Watch

PRINTS_TARGET = "luhuo.corpus.dedup.substrings:print_unit"
REPEATED_TARGET = "luhuo.corpus.dedup.substrings:repeated_prints"
MARK_TARGET = "luhuo.corpus.dedup.substrings:mark_unit"
ALGORITHM = f"fingerprints-1 fold-{folding.VERSION}"
BASES = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03))
WORD = 2**64


def prints_path(unit: str) -> str:
    """Where the fingerprints of a unit lie, in rising order."""
    return f".work/fingerprints/{unit}.columns"


def repeated_path(unit: str) -> str:
    """Where the fingerprints of a range that occur twice lie, in rising order."""
    return f".work/repeated/{unit}.columns"


def print_unit(values: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """Write the fingerprints of a unit's kept documents (`print`), with repetitions."""
    stage = DeduplicateStage.parse(values["stage"])
    assert stage.substrings is not None
    kept = Clusters.open(folder, values["starts"][-1]).reason[unit.payload["first"] :] == 0
    found = [np.zeros(0, np.uint64)]
    for batch in batches(Path(stage.annotated), unit.name):
        tokens = _tokens(batch, kept)
        prints, places = fingerprints(tokens, stage.substrings.tokens)
        found.append(prints[places])
    name = prints_path(unit.name)
    write_columns(folder / name, ALGORITHM, {"print": np.sort(np.concatenate(found))})
    return Outcome([name], {"fingerprints": sum(map(len, found))})


def repeated_prints(values: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """Write the fingerprints of a range that occur at least twice."""
    bounds = np.array([unit.payload["low"], unit.payload["high"]], np.uint64)
    parts = []
    for name in values["names"]:
        prints = read_columns(folder / prints_path(name), ALGORITHM)["print"]
        begin, end = np.searchsorted(prints, bounds[0], "left"), np.searchsorted(prints, bounds[1], "right")
        parts.append(prints[begin:end])
    prints = np.sort(np.concatenate(parts))
    starts = group_starts(prints)
    twice = prints[starts[np.diff(np.append(starts, len(prints))) > 1]]
    name = repeated_path(unit.name)
    write_columns(folder / name, ALGORITHM, {"print": twice})
    return Outcome([name], {"repeated": len(twice)})


def mark_unit(values: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """Write the windows of a unit's kept documents that may be repeated, as spans."""
    stage = DeduplicateStage.parse(values["stage"])
    assert stage.substrings is not None
    kept = Clusters.open(folder, values["starts"][-1]).reason[unit.payload["first"] :] == 0
    repeated = [read_columns(folder / repeated_path(name), ALGORITHM)["print"] for name in values["ranges"]]
    parts = [no_spans()]
    for batch in batches(Path(stage.annotated), unit.name):
        parts.append(_windows(batch, kept, stage.substrings.tokens, repeated))
    name = write_spans(folder, "substring", unit.name, parts)
    return Outcome([name], {"spans": sum(len(part.row) for part in parts)})


def _tokens(batch: Batch, kept: NDArray[np.bool_]) -> Tokens:
    return shingles.tokens(folding.fold(_texts(batch, kept)))


def _texts(batch: Batch, kept: NDArray[np.bool_]) -> list[str]:
    return [text if kept[batch.first + place] else "" for place, text in enumerate(batch.texts)]


def window_hashes(values: U64, length: int, base: np.uint64) -> U64:
    """Hashes of all windows of a length, each from the one before: (values - length + 1,).

    With S(i) the sum of value j times base^j below i, a window's is (S(i + length) - S(i)) / base^i, modulo 2^64.
    """
    count = len(values) - length + 1
    if count <= 0:
        return np.zeros(0, np.uint64)
    inverse = np.uint64(pow(int(base), -1, WORD))
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(values * _powers(base, len(values)), dtype=np.uint64)))
    return mix((sums[length:] - sums[:count]) * _powers(inverse, count))


def _powers(base: np.uint64, count: int) -> U64:
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)


def fingerprints(tokens: Tokens, length: int) -> tuple[U64, NDArray[np.int64]]:
    """(hashes of the windows of length / 2 tokens, places of the fingerprints among them), text by text."""
    short = length // 2
    around = length - short + 1
    hashes = window_hashes(tokens.values, short, BASES[0])
    windows = len(hashes) - around + 1
    if windows <= 0:
        return hashes, np.zeros(0, np.int64)
    least = _sliding_minimum(hashes, around)
    inside = _inside(tokens, length)[:windows]
    chosen = np.zeros(len(hashes), np.bool_)
    for shift in range(around):
        chosen[shift : shift + windows] |= (hashes[shift : shift + windows] == least) & inside
    return hashes, np.flatnonzero(chosen)


def _sliding_minimum(values: U64, width: int) -> U64:
    """The smallest of each `width` neighbours, by doubling."""
    covered, least = 1, values
    while covered < width:
        step = min(covered, width - covered)
        least = np.minimum(least[:-step], least[step:])
        covered += step
    return least


def _inside(tokens: Tokens, length: int) -> NDArray[np.bool_]:
    """Whether the window of a length that begins at a token ends in the same text."""
    sizes = np.diff(tokens.starts)
    return np.repeat(tokens.starts[1:], sizes) - np.arange(len(tokens.values)) >= length


def _windows(batch: Batch, kept: NDArray[np.bool_], length: int, repeated: list[U64]) -> Spans:
    """Windows that hold a fingerprint which occurs twice."""
    texts = _texts(batch, kept)
    folded = folding.fold(texts)
    tokens = shingles.tokens(folded)
    hashes, places = fingerprints(tokens, length)
    twice = places[_among(hashes[places], repeated)]
    near = np.zeros(len(tokens.values) + 1, np.int64)
    reach = length - length // 2
    np.add.at(near, np.maximum(twice - reach, 0), 1)
    np.add.at(near, twice + 1, -1)
    begins = np.flatnonzero((np.cumsum(near)[:-1] > 0) & _inside(tokens, length))
    if not len(begins):
        return no_spans()
    keys = np.stack([window_hashes(tokens.values, length, base)[begins] for base in BASES], axis=1)
    row = np.searchsorted(tokens.starts, begins, side="right") - 1
    offset = np.concatenate(([0], np.cumsum([len(text) for text in texts])))[row]
    start = folded.places[tokens.first[begins]] - offset
    end = folded.places[tokens.first[begins + length] - 1] + 1 - offset
    place = begins - tokens.starts[row]
    return Spans(keys, *(column.astype(np.uint32) for column in (row + batch.first, start, end, place)))


def _among(prints: U64, repeated: list[U64]) -> NDArray[np.bool_]:
    found = np.zeros(len(prints), np.bool_)
    for some in repeated:
        if len(some):
            at = np.minimum(np.searchsorted(some, prints), len(some) - 1)
            found |= some[at] == prints
    return found
