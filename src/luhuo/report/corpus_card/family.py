"""A corpus and what it was made of: the artifacts of the stages annotate, deduplicate and filter, found by lineage."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from luhuo.core.artifact import MANIFEST, read_manifest
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.corpus.documents import documents_path
from luhuo.corpus.factory.decide import Decider
from luhuo.corpus.factory.stages import FilterStage


@dataclass(frozen=True)
class Corpus:
    """The artifact one asked about, and those it comes from; None where a part is not there (any more)."""

    path: Path
    manifest: dict[str, Any]
    annotated: Path | None = None
    duplicates: Path | None = None
    filtered: Path | None = None
    documents: Path | None = None
    """The artifact with `documents/`: that of the filter stage, or of the corpus stage."""

    @property
    def parts(self) -> list[tuple[str, Path]]:
        """(stage, folder) of what there is, in the order it was made."""
        last = None if self.filtered else self.documents
        found = (("annotate", self.annotated), ("deduplicate", self.duplicates), ("filter", self.filtered))
        return [(stage, folder) for stage, folder in (*found, (self.manifest["stage"], last)) if folder is not None]

    @cached_property
    def settings(self) -> dict[str, Any] | None:
        """Every setting of the filter stage, or None where nothing was filtered."""
        if self.filtered is None:
            return None
        return FilterStage.parse(read_manifest(self.filtered)["config"]).model_dump(mode="json")

    @cached_property
    def decider(self) -> Decider:
        """The rules as they were applied; where nothing was filtered, those that come with Luhuo."""
        return Decider(self.settings or FilterStage.parse({"annotated": "."}).model_dump(mode="json"))

    def report(self, folder: Path | None) -> dict[str, Any]:
        """`report.json` of one of the artifacts; empty where there is none."""
        file = None if folder is None else folder / "report.json"
        return json.loads(file.read_text(encoding="utf-8")) if file is not None and file.is_file() else {}

    @property
    def sources(self) -> list[dict[str, Any]]:
        """Raw material: {"name", "reference", "sha256", "licence", "bytes"} of this artifact and its ancestors."""
        rows = [row for one in (*self.manifest["ancestors"].values(), self.manifest) for row in one["sources"]]
        return list({(row["name"], row["reference"]): row for row in rows}.values())


def open_corpus(path: str | Path) -> Corpus:
    """The corpus at `path`: the result of a stage filter, deduplicate, annotate or corpus. Raises `LuhuoError`."""
    folder = Path(path)
    manifest = read_manifest(folder)
    stage = manifest["stage"]
    if stage == "annotate":
        return Corpus(folder, manifest, annotated=folder)
    if stage == "deduplicate":
        annotated = _input(folder, manifest, "annotated")
        if annotated is None:
            raise LuhuoError(
                tr("The records that were deduplicated are not there.", "找不到去重所针对的记录。"),
                expected=tr("the result of the annotate stage", "annotate 阶段的产物"),
                where=folder,
            )
        return Corpus(folder, manifest, annotated=annotated, duplicates=folder)
    if stage == "filter":
        annotated, duplicates = (_input(folder, manifest, name) for name in ("annotated", "duplicates"))
        return Corpus(folder, manifest, annotated, duplicates, folder, folder)
    if documents_path(folder, "train").is_file():
        return Corpus(folder, manifest, documents=folder)
    raise LuhuoError(
        tr("There is no corpus here.", "这里没有语料。"),
        expected=tr(
            "the result of a stage filter, deduplicate, annotate or corpus",
            "filter、deduplicate、annotate 或 corpus 阶段的产物",
        ),
        found=stage,
        where=folder,
    )


def _input(folder: Path, manifest: dict[str, Any], name: str) -> Path | None:
    """The artifact an input named: where it was, or beside this one if all were moved together; None if it is gone."""
    record = next((row for row in manifest["inputs"] if row["field"] == name), None)
    if record is None:
        return None
    beside = sorted(file.parent for file in folder.absolute().parent.glob(f"*/{MANIFEST}"))
    for place in (Path(record["path"]), *beside):
        if (place / MANIFEST).is_file() and read_manifest(place)["key"] == record.get("artifact"):
            return place
    return None
