"""The family tree of an artifact, down to the corpus files and their licences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from luhuo.core.artifact import LINEAGE_FIELDS, read_manifest


def lineage(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yield (depth, line) of the tree, the artifact first. A part seen before is named and not repeated."""
    manifest = read_manifest(path)
    node = {k: manifest[k] for k in LINEAGE_FIELDS}
    yield from _walk(manifest["key"], node, manifest["ancestors"], 0, "", set())


def _walk(
    key: str, node: dict[str, Any], known: dict[str, Any], depth: int, via: str, seen: set[str]
) -> Iterator[tuple[int, str]]:
    label = f"{via}: " if via else ""
    again = " (↑)" if key in seen else ""
    yield depth, f"{label}{node['stage']} {node['digest'][:12]} seed={node['seed']}{again}"
    if key in seen:
        return
    seen.add(key)
    for source in node["sources"]:
        size = f", {source['bytes']:,} bytes" if source.get("bytes") else ""
        yield depth + 1, f"{source['name']} [{source['licence']}] {source['reference']}{size}"
    for record in node["inputs"]:
        parent = known.get(record.get("artifact", ""))
        if parent:
            yield from _walk(record["artifact"], parent, known, depth + 1, record["field"], seen)
        elif not node["sources"]:
            yield depth + 1, f"{record['field']}: {record['path']} {record['digest'][:12]}"
