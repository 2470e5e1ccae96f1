"""Small annotate artifacts, and copies of texts with a share of their characters or words edited."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from luhuo.core.artifact import produce
from luhuo.corpus.dedup import Verdict, verdicts
from luhuo.corpus.dedup.stages import DeduplicateStage
from luhuo.corpus.documents import writer
from luhuo.corpus.factory import records

KINDS = ("delete", "replace", "insert", "swap")


def record(text: str, source: str = "a", lang: str = "en", place: int = 0) -> dict[str, Any]:
    """A record as the annotate stage writes it."""
    name = hashlib.sha256(f"{source}\n{text}".encode()).hexdigest()[:32]
    origin = {"file": f"{source}.jsonl", "line": place}
    return {"id": name, "text": text, "lang": lang, "script": "", "source": source, "licence": "", "origin": origin}


def annotated(folder: Path, rows: Sequence[dict[str, Any]], units: int = 2) -> Path:
    """An annotate artifact with these records dealt out to units."""
    listed = []
    for number in range(units):
        name, mine = f"part-{number:05d}", rows[number::units]
        with writer(records.records_path(folder, name)) as handle:
            for row in mine:
                handle.write(records.to_line(row))
        size = sum(len(row["text"].encode()) for row in mine)
        listed.append({"name": name, "source": "mixed", "records": len(mine), "bytes": size})
    (folder / records.UNITS).write_text(json.dumps({"units": listed}), encoding="utf-8")
    return folder


def deduplicated(folder: Path, rows: Sequence[dict[str, Any]], units: int = 2, **config: Any) -> dict[str, Verdict]:
    """Run the stage over the records: id to verdict (of records with one id the last)."""
    artifact = annotated(folder / "annotated", rows, units)
    stage = DeduplicateStage.parse({"annotated": str(artifact), "executor": "inline"} | config)
    done = produce("deduplicate", stage, folder / "deduplicated")
    return {row["id"]: verdict for row, verdict in aligned(artifact, done.path)}


def aligned(artifact: Path, done: Path) -> Iterable[tuple[dict[str, Any], Verdict]]:
    """Each record with its verdict."""
    for unit in records.units(artifact):
        yield from zip(records.read_records(artifact, unit["name"]), verdicts(done, unit["name"]), strict=True)


def edited(text: str, share: float, rng: random.Random, unit: str = "character", kinds: Sequence[str] = KINDS) -> str:
    """The text with a share of its characters (or words) deleted, replaced, inserted or swapped with the next."""
    parts = text.split(" ") if unit == "word" else list(text)
    pool = list(parts)
    for _ in range(max(1, round(len(parts) * share))):
        kind, place = rng.choice(kinds), rng.randrange(len(parts) - 1)
        if kind == "delete":
            del parts[place]
        elif kind == "replace":
            parts[place] = rng.choice(pool)
        elif kind == "insert":
            parts.insert(place, rng.choice(pool))
        else:
            parts[place], parts[place + 1] = parts[place + 1], parts[place]
    return (" " if unit == "word" else "").join(parts)
