"""What is asked of documents, as columns: made of a part when it is first looked at, kept in the cache on disk.

A part of a corpus (a unit of the factory, a block of a split) is read once; after that sources, languages, reasons and
ranges of signals are compared in whole arrays, and texts are read only of documents that fit.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luhuo.core import digest
from luhuo.core.artifact import read_manifest
from luhuo.core.atomic import atomic_path
from luhuo.corpus.factory.filter import REPLACED
from luhuo.files.cache import cache_folder
from luhuo.report.corpus_card.family import Corpus
from luhuo.report.corpus_card.gather import reasons_of
from luhuo.report.corpus_card.rows import Part, Row, parts, rows

VERSION = 1
KEPT, DROPPED, UNDECIDED = 0, 1, 2
DAMAGED = (FileNotFoundError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
"""What reading columns raises that are not there, or not whole: they are made again."""
STATES = ("kept", "dropped", "undecided")


@dataclass(frozen=True)
class Columns:
    """A part: one entry a document in each array."""

    ids: NDArray[np.uint64]
    """First 16 hexadecimal digits of the id."""
    clusters: NDArray[np.uint64]
    """Of the cluster of duplicates; 0 where there is none."""
    states: NDArray[np.uint8]
    changed: NDArray[np.bool_]
    """Whether a kept text was cut, or personal data was replaced in it."""
    dropped_lines: NDArray[np.int32]
    sources: NDArray[np.uint16]
    langs: NDArray[np.uint16]
    reason_rows: NDArray[np.int32]
    reason_codes: NDArray[np.uint16]
    """Each reason of each document: its place, and the reason's place in `names["reasons"]`."""
    signals: NDArray[np.float32]
    """(documents, signals); not a number where a signal was not measured."""
    names: dict[str, list[str]]
    """"sources", "langs", "reasons", "signals": what the numbers stand for."""

    def __len__(self) -> int:
        return len(self.ids)


class Index:
    """The columns of all parts of a corpus."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus, self.parts = corpus, parts(corpus)
        made_of = [read_manifest(folder)["digest"] for _, folder in corpus.parts]
        self._folder = cache_folder() / "corpus-browse" / digest.value_digest([VERSION, *made_of])[:24]
        self._last: tuple[str, Columns] | None = None

    def columns(self, part: Part) -> Columns:
        """The columns of a part. Raises `LuhuoError` if a file of the corpus is damaged."""
        if self._last is None or self._last[0] != part.name:
            path = self._folder / f"{part.name}.npz"
            columns = _read(path)
            if columns is None:
                columns = _gathered(self.corpus, part)
                _write(path, columns)
            self._last = part.name, columns
        return self._last[1]

    def known_names(self, part: Part) -> dict[str, list[str]] | None:
        """The names in a part whose columns are there already, without reading these; else None."""
        try:
            with np.load(self._folder / f"{part.name}.npz", allow_pickle=False) as held:
                return json.loads(held["names"].tobytes().decode())
        except DAMAGED:
            return None


class _Names:
    """Numbers for names, in the order in which they come."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def number(self, name: str) -> int:
        return self.known.setdefault(name, len(self.known))


def _gathered(corpus: Corpus, part: Part) -> Columns:
    ids, clusters, states, changed, dropped = array("Q"), array("Q"), array("B"), array("B"), array("i")
    sources, langs, reason_rows, reason_codes = array("H"), array("H"), array("i"), array("H")
    names = {kind: _Names() for kind in ("sources", "langs", "reasons", "signals")}
    rows_of_signals: list[tuple[list[int], array[float]]] = []
    for place, row in enumerate(rows(corpus, part)):
        reasons = reasons_of(row)
        ids.append(prefix(row.record["id"]))
        clusters.append(prefix(row.verdict.cluster) if row.verdict is not None else 0)
        states.append(DROPPED if reasons else KEPT if row.reasons is not None or row.verdict else UNDECIDED)
        changed.append(not reasons and _is_changed(corpus, row))
        dropped.append(row.dropped_line)
        sources.append(names["sources"].number(row.record["source"]))
        langs.append(names["langs"].number(row.record["lang"]))
        for code in dict.fromkeys(str(code) for code, _ in reasons):
            reason_rows.append(place)
            reason_codes.append(names["reasons"].number(code))
        numbers = [(n, float(v)) for n, v in row.signals.items() if isinstance(v, int | float)]
        values = array("f", (value for _, value in numbers))
        rows_of_signals.append(([names["signals"].number(name) for name, _ in numbers], values))
    signals = np.full((len(ids), len(names["signals"].known)), np.nan, np.float32)
    for place, (numbers, values) in enumerate(rows_of_signals):
        signals[place, numbers] = values
    return Columns(
        np.array(ids, np.uint64),
        np.array(clusters, np.uint64),
        np.array(states, np.uint8),
        np.array(changed, np.bool_),
        np.array(dropped, np.int32),
        np.array(sources, np.uint16),
        np.array(langs, np.uint16),
        np.array(reason_rows, np.int32),
        np.array(reason_codes, np.uint16),
        signals,
        {kind: list(found.known) for kind, found in names.items()},
    )


def _is_changed(corpus: Corpus, row: Row) -> bool:
    """Whether the filter stage wrote another text than it read."""
    if row.verdict is not None and row.verdict.cuts:
        return True
    replaces = corpus.settings is not None and corpus.settings["privacy"] in REPLACED
    return replaces and any(name.startswith("privacy.") for name in row.signals)


def prefix(name: str) -> int:
    """The number of an id in hexadecimal digits; of any other name a number that depends on it."""
    try:
        return int(name[:16], 16)
    except ValueError:
        return int(digest.value_digest(name)[:16], 16)


def _write(path: Path, columns: Columns) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {name: value for name, value in vars(columns).items() if name != "names"}
    values["names"] = np.frombuffer(json.dumps(columns.names, ensure_ascii=False).encode(), np.uint8)
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        np.savez(handle, **values)


def _read(path: Path) -> Columns | None:
    """The columns in a file; None if there is none, or it is damaged and has to be made again."""
    try:
        with np.load(path, allow_pickle=False) as held:
            values = {name: held[name] for name in held.files}
        return Columns(**values | {"names": json.loads(values["names"].tobytes().decode())})
    except DAMAGED:
        return None
