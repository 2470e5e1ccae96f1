"""The deduplicate stage at work.

1. Each unit of records is signed (`signatures`).
2. Exact duplicates: keys sorted, a range at a time (`exact`).
3. Candidates: band keys sorted, a range at a time (`candidates`); their texts laid ready; pairs compared (`compare`).
4. Pairs become clusters, and of each one document is kept (`clusters`).
5. Of what is kept, those that mean the same are joined too (`semantic`, if there are embeddings).
6. Of what is kept, repeated paragraphs, lines and other spans are found (`paragraphs`, `substrings`, `repeated`).
7. Each unit gets its verdicts (`verdict`).

Every step writes files that bear digests; a run that was cut off makes only what is missing or damaged.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from luhuo.core.artifact import Workspace
from luhuo.core.atomic import write_json
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.corpus.dedup import (
    candidates,
    clusters,
    compare,
    exact,
    minhash,
    paragraphs,
    repeated,
    semantic,
    signatures,
    simhash,
    substrings,
    verdict,
)
from luhuo.corpus.dedup.ranges import key_ranges
from luhuo.corpus.dedup.records import Numbering, work_units
from luhuo.corpus.dedup.signatures import Signatures
from luhuo.corpus.dedup.similarity import require_rapidfuzz
from luhuo.corpus.dedup.stages import DeduplicateStage
from luhuo.corpus.dedup.tables import read_columns, write_columns
from luhuo.corpus.dedup.unionfind import UnionFind
from luhuo.corpus.factory.executors import Job, Unit, run

WORK = ".work"
PAIRS_TOGETHER = 500_000
"""Candidate pairs compared by one unit of work."""


def deduplicate(stage: DeduplicateStage, out: Workspace) -> None:
    """Write `verdicts/` and `report.json`. Raises `LuhuoError` if there are no records."""
    steps = _Steps(stage, out.path)
    report = steps.all()
    write_json(out.path / "report.json", report)
    for name in ("documents", "kept", "exact", "near", "semantic", "clusters"):
        out.results[name] = report[name]
    for half in (out.path / "verdicts").glob(".*.tmp"):  # a process was killed while it wrote
        half.unlink()
    for name in (WORK, ".done", ".at"):
        shutil.rmtree(out.path / name, ignore_errors=True)


class _Steps:
    """The steps over one artifact, in order."""

    def __init__(self, stage: DeduplicateStage, folder: Path) -> None:
        self.stage, self.folder = stage, folder
        self.algorithm = signatures.algorithm(stage)
        if stage.near is not None:
            require_rapidfuzz()
        self.units = work_units(Path(stage.annotated))
        self.bytes = sum(unit.bytes for unit in self.units)
        self.numbering = Numbering.of(self.units)
        values = stage.model_dump(mode="json")
        starts = [int(start) for start in self.numbering.starts]
        self.values = {"stage": values, "names": list(self.numbering.names), "starts": starts}
        self.total = self.numbering.total

    def all(self) -> dict[str, Any]:
        """Run them and tell what was found."""
        signed = self._run(signatures.TARGET, self.units, "sign", self.values["stage"])
        joins = [(clusters.EXACT, self._exact())]
        told: dict[str, Any] = {}
        if self.stage.near is not None:
            told, paths = self._near(sum(row["signed"] for row in signed))
            joins.append((clusters.NEAR, paths))
        found = clusters.write_clusters(self.folder, self._signatures(), joins)
        if self.stage.semantic is not None:
            joins.append((clusters.SEMANTIC, self._semantic()))
            found = clusters.write_clusters(self.folder, self._signatures(), joins)
        cuts = self._cuts()
        written = self._run(verdict.TARGET, self.units, "verdicts", self.values | {"cuts": cuts})
        for name in ("cut_documents", "cut_characters"):
            told[name] = sum(row[name] for row in written)
        lost = sum(found[why] for why in ("exact", "near", "semantic"))
        return {"documents": self.total, "kept": self.total - lost} | found | told

    def _run(
        self, target: str, units: Sequence[Unit], title: str, values: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        options: dict[str, Any] = {"executor": self.stage.executor, "workers": self.stage.workers}
        return run(Job(target, values or self.values), units, self.folder, title=title, **options)

    def _signatures(self) -> Signatures:
        return Signatures(self.folder, self.numbering, self.stage)

    def _exact(self) -> list[Path]:
        """Find equal documents, and mark all but the first in a map for the steps that follow."""
        ranges = key_ranges("range", self.total, exact.RANGE_DOCUMENTS, self.bytes)
        self._run(exact.TARGET, ranges, "exact")
        repeats = self._map("repeats")
        paths = [self.folder / exact.pairs_path(unit.name) for unit in ranges]
        for path in paths:
            repeats[read_columns(path, clusters.EDGES)["right"]] = 1
        repeats.flush()
        return paths

    def _map(self, name: str) -> np.memmap[Any, Any]:
        """A new map of one byte a document, all 0."""
        return np.memmap(self.folder / WORK / f"{name}.map", np.uint8, "w+", shape=(self.total,))

    def _near(self, signed: int) -> tuple[dict[str, Any], list[Path]]:
        """(what the report says, files of pairs) of near duplicates."""
        near = self.stage.near
        assert near is not None
        bands = near.bands[0] if near.method == "minhash" else simhash.BLOCKS
        self._say_curve()
        ranges = key_ranges("range", signed * bands, candidates.RANGE_KEYS, self.bytes)
        self._run(candidates.TARGET, ranges, "candidates")
        units = self._divide([unit.name for unit in ranges])
        self._run(compare.TEXTS_TARGET, self.units, "texts")
        told = self._run(compare.PAIRS_TARGET, units, "compare")
        compared = sum(row["compared"] for row in told)
        say(tr(f"{compared} pairs of documents compared", f"比较了 {compared} 对文档"))
        names = {"signatures": self.algorithm}
        return names, [self.folder / compare.edges_path(unit.name) for unit in units]

    def _say_curve(self) -> None:
        near = self.stage.near
        if near is None or near.method != "minhash":
            return
        bands, rows = near.bands
        curve = " ".join(f"{similarity:g}:{chance:.3f}" for similarity, chance in minhash.curve(bands, rows))
        text = tr("chance to become a candidate, by similarity:", "各相似度成为候选的概率：")
        say(tr(f"{bands} bands of {rows}; {text} {curve}", f"{bands} 段，每段 {rows} 位；{text}{curve}"))

    def _divide(self, ranges: Sequence[str]) -> list[Unit]:
        """Candidate pairs by connected component, in units of about `PAIRS_TOGETHER`; their documents in a map."""
        components = UnionFind(self.folder / WORK / "components.map", self.total)
        wanted = self._map("wanted")
        count = 0
        for columns in self._candidates(ranges):
            components.join(columns["left"], columns["right"])
            wanted[columns["left"]] = wanted[columns["right"]] = 1
            count += len(columns["left"])
        wanted.flush()
        parts = max(1, -(-count // PAIRS_TOGETHER))
        units = []
        for part in range(parts):
            chosen = []
            for columns in self._candidates(ranges):
                component = components.roots(columns["left"])
                here = component % parts == part
                chosen.append(
                    {name: column[here] for name, column in columns.items()} | {"component": component[here]}
                )
            columns = {name: np.concatenate([part[name] for part in chosen]) for name in chosen[0]}
            _, first = np.unique(np.column_stack((columns["left"], columns["right"])), axis=0, return_index=True)
            columns = {name: column[first] for name, column in columns.items()}
            unit = Unit(f"pairs-{part:05d}", self.bytes // parts, {"pairs": len(first)})
            write_columns(self.folder / compare.pairs_path(unit.name), compare.PAIRS, columns)
            units.append(unit)
        return units

    def _cuts(self) -> dict[str, list[str]]:
        """Find repeated spans of kept documents: {kind: names of the ranges whose cuts are written}."""
        cuts: dict[str, list[str]] = {}
        for kind, wanted in (("paragraph", self.stage.paragraphs), ("line", self.stage.lines)):
            if wanted is not None:
                values = self.values | {"kind": kind}
                cuts[kind] = self._cut_ranges(kind, self._run(paragraphs.TARGET, self.units, f"{kind}s", values))
        if self.stage.substrings is not None:
            printed = self._run(substrings.PRINTS_TARGET, self.units, "fingerprints")
            count = sum(row["fingerprints"] for row in printed)
            ranges = key_ranges("range", count, repeated.RANGE_SPANS, self.bytes)
            self._run(substrings.REPEATED_TARGET, ranges, "repeated")
            values = self.values | {"ranges": [unit.name for unit in ranges]}
            cuts["substring"] = self._cut_ranges(
                "substring", self._run(substrings.MARK_TARGET, self.units, "substrings", values)
            )
        return cuts

    def _cut_ranges(self, kind: str, marked: Sequence[dict[str, Any]]) -> list[str]:
        ranges = key_ranges("range", sum(row["spans"] for row in marked), repeated.RANGE_SPANS, self.bytes)
        self._run(repeated.TARGET, ranges, f"{kind}-cuts", self.values | {"kind": kind})
        return [unit.name for unit in ranges]

    def _candidates(self, ranges: Sequence[str]) -> Iterator[dict[str, Any]]:
        for name in ranges:
            yield read_columns(self.folder / candidates.candidates_path(name), candidates.ALGORITHM)

    def _semantic(self) -> list[Path]:
        """Find documents that mean the same by their embeddings: files of pairs."""
        rounded = self._run(semantic.ROUND_TARGET, self.units, "vectors")
        semantic.require_one_width(rounded, self.stage)
        count = semantic.first_centroids(
            self.folder, self._signatures(), self.stage, sum(row["vectors"] for row in rounded)
        )
        for step in range(semantic.ROUNDS):
            self._run(semantic.ASSIGN_TARGET, self.units, f"kmeans-{step:02d}", self.values | {"step": step})
            semantic.next_centroids(self.folder, step, self.numbering.names)
        units = semantic.cluster_units(count, self.bytes)
        self._run(semantic.JOIN_TARGET, units, "semantic", self.values | {"step": semantic.ROUNDS - 1})
        return [self.folder / semantic.edges_path(unit.name) for unit in units]
