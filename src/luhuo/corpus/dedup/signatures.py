"""What is kept of each document to find its duplicates: one file of columns a unit of records."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luhuo.corpus.dedup import folding, minhash, shingles, simhash
from luhuo.corpus.dedup.folding import Folded
from luhuo.corpus.dedup.records import Batch, Numbering, batches
from luhuo.corpus.dedup.stages import DeduplicateStage
from luhuo.corpus.dedup.tables import SUFFIX, Column, read_columns, write_columns
from luhuo.corpus.factory.executors import Outcome, Unit
from luhuo.corpus.factory.watch import Watch

TARGET = "luhuo.corpus.dedup.signatures:sign_unit"
FOLDER = ".work/signatures"


def algorithm(stage: DeduplicateStage) -> str:
    """The name of everything a signature file depends on but its texts."""
    near = stage.near
    if near is None:
        return f"exact fold-{folding.VERSION}"
    if near.method == "simhash":
        return simhash.algorithm(near.pieces)
    return minhash.algorithm(near.pieces, math.prod(near.bands))


def signatures_path(unit: str) -> str:
    """Where the signatures of a unit lie, below the folder of the artifact."""
    return f"{FOLDER}/{unit}{SUFFIX}"


def sign_unit(values: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """Write the columns of a unit: of each document `id` (2 x u64), `size` (characters), `priority`, `source`,
    `origin` and `exact` (2 x u64); of each that may be a near duplicate `near_row`, `places` (16 bits of each place
    of its signature); and all band keys in rising order, `key` with `key_row`, an index into `near_row`."""
    stage = DeduplicateStage.parse(values)
    parts: list[dict[str, Column]] = []
    seen: set[bytes] = set()
    for batch in batches(Path(stage.annotated), unit.name, careful=watch.careful):
        watch.at(batch.first)
        skipped = watch.skips.intersection(range(batch.first, batch.first + len(batch.rows)))
        texts = ["" if batch.first + place in skipped else text for place, text in enumerate(batch.texts)]
        folded = folding.fold(texts)
        columns = _described(batch, stage) | {"exact": exact_keys(folded, batch.rows)}
        if stage.near is not None:
            columns |= _near(folded, columns["exact"], batch.first, seen, stage)
        parts.append(columns)
    if not parts:
        parts.append(_nothing(stage))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    columns["exact_order"] = np.argsort(columns["exact"][:, 0], kind="stable").astype(np.uint32)
    if "key" in columns:
        width = len(columns["key"]) // max(len(columns["near_row"]), 1)
        order = np.argsort(columns["key"], kind="stable")
        columns["key_row"] = (np.arange(len(columns["key"])) // max(width, 1)).astype(np.uint32)[order]
        columns["key"] = columns["key"][order]
    name = signatures_path(unit.name)
    write_columns(folder / name, algorithm(stage), columns)
    return Outcome([name], {"documents": unit.payload["records"], "signed": len(columns.get("near_row", ()))})


def _nothing(stage: DeduplicateStage) -> dict[str, Column]:
    """The columns of a unit without records."""
    folded, batch = folding.fold([]), Batch(0, [])
    columns = _described(batch, stage) | {"exact": exact_keys(folded, [])}
    return columns if stage.near is None else columns | _near(folded, columns["exact"], 0, set(), stage)


def exact_keys(folded: Folded, rows: Sequence[dict[str, Any]]) -> NDArray[np.uint64]:
    """128 bits of SHA-256 of each text in its looser form; of nothing but blanks, of the id: (texts, 2)."""
    keys = bytearray()
    for number, row in enumerate(rows):
        text = folded.text(number)
        keys += hashlib.sha256(text.data if len(text) else row["id"].encode()).digest()[:16]
    return np.frombuffer(bytes(keys), ">u8").astype(np.uint64).reshape(-1, 2)


def _described(batch: Batch, stage: DeduplicateStage) -> dict[str, Column]:
    order = {name: place for place, name in enumerate(stage.priority)}
    rows = batch.rows
    ids = b"".join(bytes.fromhex(row["id"]) for row in rows)
    return {
        "id": np.frombuffer(ids, ">u8").astype(np.uint64).reshape(-1, 2),
        "size": np.fromiter((len(row["text"]) for row in rows), np.uint32, len(rows)),
        "priority": np.fromiter((order.get(row["source"], len(order)) for row in rows), np.uint16, len(rows)),
        "source": np.fromiter((_short_hash(row["source"]) for row in rows), np.uint64, len(rows)),
        "origin": np.fromiter((_short_hash(str(row.get("origin"))) for row in rows), np.uint64, len(rows)),
    }


def _short_hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _near(
    folded: Folded, exact: Column, first: int, seen: set[bytes], stage: DeduplicateStage
) -> dict[str, NDArray[np.generic]]:
    """Signatures of the documents that are long enough and were not seen in this unit."""
    near = stage.near
    assert near is not None
    long_enough = folding.columns(folded) >= near.min_columns
    chosen = []
    for number in np.flatnonzero(long_enough):
        key = exact[number].tobytes()
        if key not in seen:
            seen.add(key)
            chosen.append(number)
    rows = np.array(chosen, np.int64)
    numbers, starts = shingles.shingles(folded, near.pieces)
    if len(rows) < len(folded.starts) - 1:
        lengths = np.diff(starts)
        wanted = np.zeros(len(lengths), np.bool_)
        wanted[rows] = True
        numbers = numbers[np.repeat(wanted, lengths)]
        starts = np.concatenate(([0], np.cumsum(lengths[rows])))
    if near.method == "simhash":
        signed = simhash.signatures(numbers, starts)
        keys, places = simhash.block_keys(signed), signed.view(np.uint16)
    else:
        whole = minhash.signatures(numbers, starts, math.prod(near.bands))
        keys, places = minhash.band_keys(whole, near.bands[1]), whole.astype(np.uint16)
    return {"near_row": (rows + first).astype(np.uint32), "places": places, "key": keys.ravel()}


class Signatures:
    """The signature files of all units, mapped."""

    def __init__(self, folder: Path, numbering: Numbering, stage: DeduplicateStage) -> None:
        self.numbering = numbering
        name = algorithm(stage)
        self.units = [read_columns(folder / signatures_path(unit), name) for unit in numbering.names]

    def column(self, name: str, documents: NDArray[np.int64]) -> Column:
        """A column's values of some documents, by their numbers."""
        like = self.units[0][name]
        found = np.empty((len(documents), *like.shape[1:]), like.dtype)
        for unit, places, rows in self.numbering.by_unit(documents):
            found[places] = self.units[unit][name][rows]
        return found

    def places(self, documents: NDArray[np.int64]) -> Column:
        """The places of the signatures of some documents: (documents, places) uint16."""
        like = self.units[0]["places"]
        found = np.empty((len(documents), like.shape[1]), np.uint16)
        for unit, at, rows in self.numbering.by_unit(documents):
            near = self.units[unit]["near_row"]
            found[at] = self.units[unit]["places"][np.searchsorted(near, rows.astype(near.dtype))]
        return found
