"""The media stage at work: `manifest.jsonl`, `dropped.jsonl`, `quarantine.jsonl` and `report.json`.

Files stay where they are; the manifest names them. Of equal and of like files one is kept: a captioned one before one
without, then the one with more pixels, then the one whose digest comes first, whatever the order they were read in.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from luhuo.core.atomic import atomic_path, write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import Progress
from luhuo.corpus.languages import identify
from luhuo.corpus.media.audio import read_audio
from luhuo.corpus.media.images import Unreadable, read_image
from luhuo.corpus.media.near import clusters
from luhuo.corpus.media.pairs import OTHER_AUDIO, Item, items
from luhuo.corpus.sources import name_source
from luhuo.files.records import Broken, broken
from luhuo.files.references import resolve
from luhuo.files.streams import Bomb, format_of

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace
    from luhuo.corpus.media.stages import MediaStage

CHUNK = 2**20


def build(stage: MediaStage, out: Workspace) -> None:
    """Read everything, decide, write. Raises `LuhuoError` if nothing can be kept."""
    resolved = resolve(stage.data)
    rows, bad = _read(stage, resolved.path)
    rows.sort(key=lambda row: (row["id"], row["file"]))
    _identify(rows)
    for row in rows:
        row["reason"] = _outside(row, stage)
    _find_duplicates(rows, stage.near)
    for row in rows:
        if row["of"] is not None and stage.duplicates == "drop":
            row["reason"] = row["reason"] or "duplicate"
    kept = [row for row in rows if row["reason"] is None]
    if not kept:
        raise LuhuoError(
            tr("No file can be kept.", "没有可保留的文件。"),
            found=str(dict(Counter([row["reason"] for row in rows] + [b.reason for b in bad]).most_common(8))),
            where=stage.data,
            fix=tr("Look at the reasons and widen the limits.", "查看原因并放宽限制。"),
        )
    _write(out.path / "manifest.jsonl", ({k: v for k, v in row.items() if k != "reason"} for row in kept))
    _write(out.path / "dropped.jsonl", (row for row in rows if row["reason"] is not None))
    bad.sort(key=lambda b: (b.file, b.line, b.reason))
    _write(
        out.path / "quarantine.jsonl",
        ({"file": b.file, "line": b.line, "reason": b.reason, "excerpt": b.excerpt} for b in bad),
    )
    report = _report(rows, kept, bad)
    write_json(out.path / "report.json", report)
    name_source("media", stage.licence, resolved, out)
    out.results["kept"] = len(kept)
    out.results["dropped"] = len(rows) - len(kept)
    out.results["quarantined"] = len(bad)
    out.results["hours"] = report["hours"]


def _read(stage: MediaStage, path: Path) -> tuple[list[dict[str, Any]], list[Broken]]:
    """A row for each file that can be read, and what cannot be."""
    rows: list[dict[str, Any]] = []
    bad: list[Broken] = []
    with Progress("media", unit="MB") as progress:
        for item in items(path, stage.path_field, stage.caption_field):
            if isinstance(item, Broken):
                bad.append(item)
                continue
            try:
                row = _row(item, stage)
                rows.append(row)
                progress.advance(row["bytes"] / 1e6)
            except Unreadable as error:
                bad.append(broken(item.name, 0, error.reason, error))
            except Bomb as error:
                bad.append(broken(item.name, 0, "bomb", error))
    return rows, bad


def _row(item: Item, stage: MediaStage) -> dict[str, Any]:
    if format_of(Path(item.name)) in OTHER_AUDIO:
        raise Unreadable("unknown_format", format_of(Path(item.name)))
    with item.open() as handle:
        digest, size = _digest(handle)
        row: dict[str, Any] = {
            "id": digest[:32],
            "file": item.name,
            "kind": item.kind,
            "bytes": size,
            "sha256": digest,
        }
        if not size:
            raise Unreadable("empty")
        handle.seek(0)
        if item.kind == "image":
            seen = read_image(handle, int(stage.max_megapixels * 1e6))
            row |= {"format": seen.format, "width": seen.width, "height": seen.height}
            row |= {"dhash": _hex(seen.dhash), "phash": _hex(seen.phash)}
        else:
            heard = read_audio(handle)
            row |= {"format": heard.codec, "seconds": heard.seconds, "rate": heard.rate, "channels": heard.channels}
    return row | {"caption": item.caption, "lang": None}


def _digest(handle: IO[bytes]) -> tuple[str, int]:
    sha, size = hashlib.sha256(), 0
    while block := handle.read(CHUNK):
        sha.update(block)
        size += len(block)
    return sha.hexdigest(), size


def _hex(value: int | None) -> str | None:
    return None if value is None else f"{value:016x}"


def _identify(rows: list[dict[str, Any]]) -> None:
    captioned = [row for row in rows if row["caption"]]
    for row, guess in zip(captioned, identify([row["caption"] for row in captioned]), strict=True):
        row["lang"] = guess.lang


def _find_duplicates(rows: list[dict[str, Any]], near: int | None) -> None:
    """Give each row its `cluster` (the smallest id in it), and `of`, the file that stands for it, if another does."""
    cluster = {row["id"]: row["id"] for row in rows}
    seen = {row["id"]: row for row in reversed(rows) if row.get("dhash") and row.get("phash")}
    ids = sorted(seen)
    if near is not None and ids:
        first = clusters([int(seen[i]["dhash"], 16) for i in ids], [int(seen[i]["phash"], 16) for i in ids], near)
        cluster |= {identity: ids[place] for identity, place in zip(ids, first, strict=True)}
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        row["cluster"] = cluster[row["id"]]
        held = best.get(row["cluster"])
        if held is None or _rank(row) < _rank(held):
            best[row["cluster"]] = row
    for row in rows:
        row["of"] = None if best[row["cluster"]] is row else best[row["cluster"]]["file"]


def _rank(row: dict[str, Any]) -> tuple[bool, bool, int, str, str]:
    return (
        row["reason"] is not None,
        not row["caption"],
        -row.get("width", 0) * row.get("height", 0),
        row["id"],
        row["file"],
    )


def _outside(row: dict[str, Any], stage: MediaStage) -> str | None:
    """Which limit a row does not keep, or None."""
    if row["kind"] == "image":
        short, long = sorted((row["width"], row["height"]))
        if short < stage.min_side:
            return "too_small"
        if long > stage.max_side:
            return "too_large"
        if long > stage.max_aspect * short:
            return "aspect"
    elif row["seconds"] < stage.min_seconds:
        return "too_short"
    elif row["seconds"] > stage.max_seconds:
        return "too_long"
    return "no_caption" if stage.need_caption and not row["caption"] else None


def _report(rows: list[dict[str, Any]], kept: list[dict[str, Any]], bad: list[Broken]) -> dict[str, Any]:
    return {
        "read": len(rows) + len(bad),
        "kept": len(kept),
        "dropped": dict(sorted(Counter(row["reason"] for row in rows if row["reason"]).items())),
        "quarantined": dict(sorted(Counter(b.reason for b in bad).items())),
        "kinds": dict(sorted(Counter(row["kind"] for row in kept).items())),
        "formats": dict(sorted(Counter(row["format"] for row in kept).items())),
        "captioned": sum(bool(row["caption"]) for row in kept),
        "languages": dict(sorted(Counter(row["lang"] for row in kept if row["lang"]).items())),
        "clusters": sum(n > 1 for n in Counter(row["cluster"] for row in rows).values()),
        "megapixels": round(sum(row.get("width", 0) * row.get("height", 0) for row in kept) / 1e6, 3),
        "hours": round(sum(row.get("seconds", 0.0) for row in kept) / 3600, 4),
        "bytes": sum(row["bytes"] for row in kept),
    }


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
