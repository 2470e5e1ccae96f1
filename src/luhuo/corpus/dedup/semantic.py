"""Semantic duplicates: documents whose embeddings point the same way (SemDeDup, Abbas et al. 2023).

The embeddings come from any model, made before. They are divided into clusters by k-means, so that only documents of
one cluster are compared; those whose cosine is at least the threshold are joined.

Sums of real numbers depend on their order, and so on workers and processors. Therefore vectors are rounded to whole
numbers from -127 to 127 first (the largest component is 127): all sums are then exact, and results equal everywhere.
The rounding moves a cosine by about 0.002 at most.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.corpus.dedup.clusters import EDGES, Clusters
from luhuo.corpus.dedup.records import Numbering
from luhuo.corpus.dedup.shingles import mix
from luhuo.corpus.dedup.signatures import Signatures
from luhuo.corpus.dedup.stages import DeduplicateStage
from luhuo.corpus.dedup.tables import read_columns, write_columns
from luhuo.corpus.factory.executors import Outcome, Unit
from luhuo.corpus.factory.watch import Watch

ROUND_TARGET = "luhuo.corpus.dedup.semantic:round_unit"
ASSIGN_TARGET = "luhuo.corpus.dedup.semantic:assign_unit"
JOIN_TARGET = "luhuo.corpus.dedup.semantic:join_clusters"
VECTORS, CENTROIDS, ASSIGNED = "vectors-1", "centroids-1", "assigned-1"
LARGEST = 127
EXACT_FLOAT32 = 2**24 // LARGEST**2
"""Components up to which a dot product is exact in 32 bits."""
ROUNDS = 8
"""Iterations of k-means: it need not converge, only keep neighbours together."""
ROWS = 2048
CLUSTERS_TOGETHER = 64


def vectors_path(unit: str) -> str:
    """Where the rounded vectors of a unit lie."""
    return f".work/vectors/{unit}.columns"


def centroids_path(step: int) -> str:
    """Where the centroids before a round lie."""
    return f".work/centroids/{step:02d}.columns"


def assigned_path(step: int, unit: str) -> str:
    """Where the clusters of a unit's documents in a round lie."""
    return f".work/assigned-{step:02d}/{unit}.columns"


def edges_path(unit: str) -> str:
    """Where the pairs of some clusters lie."""
    return f".work/semantic-edges/{unit}.columns"


def round_unit(values: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """Write `row` and `vector` (int8) of a unit's kept documents that have a direction."""
    stage = DeduplicateStage.parse(values["stage"])
    assert stage.semantic is not None
    kept = Clusters.open(folder, values["starts"][-1]).reason[unit.payload["first"] :] == 0
    vectors = _load(Path(stage.semantic.embeddings) / f"{unit.name}.npy", unit.payload["records"])
    rows = np.flatnonzero(kept[: len(vectors)])
    found = []
    for begin in range(0, len(rows), ROWS):
        some = np.asarray(vectors[rows[begin : begin + ROWS]], np.float64)
        most = np.abs(some).max(axis=1, keepdims=True, initial=0.0)
        found.append(np.rint(some / np.where(most > 0, most, 1) * LARGEST).astype(np.int8))
    rounded = np.concatenate(found) if found else np.zeros((0, vectors.shape[1]), np.int8)
    whole = rounded.any(axis=1)
    name = vectors_path(unit.name)
    write_columns(folder / name, VECTORS, {"row": rows[whole].astype(np.uint32), "vector": rounded[whole]})
    return Outcome([name], {"vectors": int(whole.sum()), "width": int(vectors.shape[1])})


def require_one_width(rounded: Sequence[dict[str, Any]], stage: DeduplicateStage) -> None:
    """Raise `LuhuoError` unless the vectors of all units are of one length and there are any."""
    widths = {row["width"] for row in rounded}
    if len(widths) == 1 and any(row["vectors"] for row in rounded):
        return
    raise LuhuoError(
        tr("The embeddings are not those of one model.", "嵌入向量不是同一个模型给出的。"),
        expected=tr("rows of one length, not all zero", "长度一致且不全为零的行"),
        found=sorted(widths),
        where=stage.semantic and stage.semantic.embeddings,
    )


def _load(path: Path, records: int) -> NDArray[Any]:
    """The embeddings of a unit, mapped. Raises `LuhuoError` unless there is one finite row for each record."""
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise LuhuoError(
            tr("These embeddings cannot be read.", "无法读取嵌入向量。"), found=error, where=path
        ) from error
    if vectors.ndim != 2 or len(vectors) != records or vectors.dtype.kind != "f":
        raise LuhuoError(
            tr("The embeddings do not fit the records.", "嵌入向量与记录不对应。"),
            expected=tr(f"{records} rows of real numbers", f"{records} 行实数"),
            found=f"{vectors.dtype} {vectors.shape}",
            where=path,
        )
    if not all(np.isfinite(vectors[begin : begin + ROWS]).all() for begin in range(0, records, ROWS)):
        raise LuhuoError(tr("The embeddings hold numbers that are not finite.", "嵌入向量含有非有限数。"), where=path)
    return vectors


def products(left: NDArray[np.int8], right: NDArray[np.int8]) -> NDArray[np.float64]:
    """Exact dot products of all pairs: (left, right)."""
    kind = np.float32 if left.shape[1] <= EXACT_FLOAT32 else np.float64
    return (left.astype(kind) @ right.astype(kind).T).astype(np.float64)


def norms(vectors: NDArray[np.int8]) -> NDArray[np.float64]:
    """Lengths of vectors."""
    wide = vectors.astype(np.int64)
    return np.sqrt((wide * wide).sum(axis=1).astype(np.float64))


def first_centroids(folder: Path, signatures: Signatures, stage: DeduplicateStage, count: int) -> int:
    """Write the first centroids: the vectors of the documents whose hashed ids are smallest. Returns how many."""
    assert stage.semantic is not None
    wanted = stage.semantic.clusters or max(1, math.isqrt(count))
    seed = np.uint64(derive_seed(stage.seed, "semantic"))
    numbering, found = signatures.numbering, np.zeros((0, 2), np.uint64)
    for name, first in zip(numbering.names, numbering.starts, strict=False):
        rows = read_columns(folder / vectors_path(name), VECTORS)["row"]
        documents = rows.astype(np.int64) + first
        ids = signatures.column("id", documents)
        hashes = mix(mix(ids[:, 0] ^ seed) ^ ids[:, 1])
        found = np.concatenate((found, np.column_stack((hashes, documents.astype(np.uint64)))))
        found = found[np.lexsort((found[:, 1], found[:, 0]))][:wanted]
    vectors = _vectors(folder, numbering, found[:, 1].astype(np.int64))
    write_columns(folder / centroids_path(0), CENTROIDS, {"vector": vectors})
    return len(vectors)


def assign_unit(values: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """Write the `cluster` of each of a unit's vectors, and the exact `total` of the vectors of each cluster."""
    centroids = read_columns(folder / centroids_path(values["step"]), CENTROIDS)["vector"]
    vectors = read_columns(folder / vectors_path(unit.name), VECTORS)["vector"]
    lengths = np.maximum(norms(centroids), 1)
    cluster = np.zeros(len(vectors), np.int32)
    total = np.zeros(centroids.shape, np.int64)
    for begin in range(0, len(vectors), ROWS):
        some = vectors[begin : begin + ROWS]
        cluster[begin : begin + len(some)] = (products(some, centroids) / lengths).argmax(axis=1)
        np.add.at(total, cluster[begin : begin + len(some)], some.astype(np.int64))
    name = assigned_path(values["step"], unit.name)
    write_columns(folder / name, ASSIGNED, {"cluster": cluster, "total": total})
    return Outcome([name], {})


def next_centroids(folder: Path, step: int, names: Sequence[str]) -> None:
    """Write the centroids after a round: means, rounded as vectors are; a cluster without documents stays."""
    before = read_columns(folder / centroids_path(step), CENTROIDS)["vector"]
    total = np.zeros(before.shape, np.int64)
    for name in names:
        total += read_columns(folder / assigned_path(step, name), ASSIGNED)["total"]
    most = np.abs(total).max(axis=1, keepdims=True, initial=0)
    rounded = np.rint(total / np.maximum(most, 1) * LARGEST).astype(np.int8)
    write_columns(folder / centroids_path(step + 1), CENTROIDS, {"vector": np.where(most > 0, rounded, before)})


def cluster_units(clusters: int, size: int) -> list[Unit]:
    """Units of a few clusters each."""
    starts = range(0, clusters, CLUSTERS_TOGETHER)
    return [
        Unit(f"clusters-{low:07d}", size // len(starts), {"low": low, "high": min(low + CLUSTERS_TOGETHER, clusters)})
        for low in starts
    ]


def join_clusters(values: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """Write the pairs (`left`, `right`) of documents in one of the unit's clusters that mean the same."""
    stage = DeduplicateStage.parse(values["stage"])
    assert stage.semantic is not None
    numbering = Numbering(values["names"], np.array(values["starts"], np.int64))
    sources = Signatures(folder, numbering, stage)
    edges = [np.zeros((0, 2), np.int64)]
    for cluster in range(unit.payload["low"], unit.payload["high"]):
        documents = np.concatenate(list(_members(folder, numbering, values["step"], cluster)))
        vectors = _vectors(folder, numbering, documents)
        pairs = documents[_alike(vectors, stage.semantic.threshold)]
        if not stage.across:
            one, other = (sources.column("source", pairs[:, side]) for side in (0, 1))
            pairs = pairs[one == other]
        edges.append(pairs)
    found = np.concatenate(edges)
    name = edges_path(unit.name)
    write_columns(folder / name, EDGES, {"left": found[:, 0], "right": found[:, 1]})
    return Outcome([name], {"duplicates": len(found)})


def _alike(vectors: NDArray[np.int8], threshold: float) -> NDArray[np.int64]:
    """Pairs of places whose vectors have at least this cosine: (pairs, 2)."""
    lengths, found = norms(vectors), [np.zeros((0, 2), np.int64)]
    for begin in range(0, len(vectors), ROWS):
        for other in range(begin, len(vectors), ROWS):
            one, two = vectors[begin : begin + ROWS], vectors[other : other + ROWS]
            cosine = products(one, two) / np.outer(lengths[begin : begin + ROWS], lengths[other : other + ROWS])
            places = np.argwhere(cosine >= threshold) + np.array((begin, other))
            found.append(places[places[:, 0] < places[:, 1]])
    return np.concatenate(found)


def _members(folder: Path, numbering: Numbering, step: int, cluster: int) -> Iterator[NDArray[np.int64]]:
    for name, first in zip(numbering.names, numbering.starts, strict=False):
        here = read_columns(folder / assigned_path(step, name), ASSIGNED)["cluster"] == cluster
        rows = read_columns(folder / vectors_path(name), VECTORS)["row"]
        yield rows[here].astype(np.int64) + first


def _vectors(folder: Path, numbering: Numbering, documents: NDArray[np.int64]) -> NDArray[np.int8]:
    """The rounded vectors of some documents."""
    width = read_columns(folder / vectors_path(numbering.names[0]), VECTORS)["vector"].shape[1]
    found = np.empty((len(documents), width), np.int8)
    for unit, places, rows in numbering.by_unit(documents):
        columns = read_columns(folder / vectors_path(numbering.names[unit]), VECTORS)
        found[places] = columns["vector"][np.searchsorted(columns["row"], rows.astype(np.uint32))]
    return found
