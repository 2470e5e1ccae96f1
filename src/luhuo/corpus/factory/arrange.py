"""What is kept, in the order of ids and split by cluster: equal bytes for any order and any number of workers.

The ids are hashes, so documents of all sources come out well mixed, and their first digits divide them evenly into
buckets. Each unit writes its documents as frames, each of one bucket, with an index; each bucket is then put together
from the frames of all units, sorted, and written as frames of its own; these one after another are the result.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from luhuo.core.atomic import atomic_path, write_json
from luhuo.corpus.documents import SPLITS, documents_path, write_document, writer
from luhuo.corpus.factory import records
from luhuo.corpus.factory.executors import Job, Outcome, Unit, run
from luhuo.corpus.factory.watch import Watch
from luhuo.corpus.split import Splitter

BUCKET_BYTES = 64_000_000
"""Text of a bucket, which one worker holds in memory."""
MOST_BUCKETS = 65_536
HELD_BYTES = 32_000_000
"""Text a unit holds before it writes its frames."""
FIELDS = ("id", "text", "lang", "source", "licence")
HERE = "luhuo.corpus.factory.arrange"
Counts = dict[str, dict[str, int]]


def buckets_of(total_bytes: int) -> int:
    """How many buckets a corpus of so much text has: it depends on the documents, not on their order."""
    return max(1, min(MOST_BUCKETS, total_bytes // BUCKET_BYTES))


class Frames:
    """Writes the kept documents of a unit: frames of one bucket each, and where they lie."""

    def __init__(self, handle: BinaryIO, buckets: int) -> None:
        self._handle, self._buckets = handle, buckets
        self._held: dict[int, list[str]] = {}
        self._size = self._place = 0
        self._packer = zstandard.ZstdCompressor(level=records.LEVEL)
        self.index: list[list[int]] = []
        """[bucket, place, length] of each frame."""

    def add(self, row: dict[str, Any]) -> None:
        """Keep one document: {"id", "cluster", "text", …}."""
        line = records.to_line(row)
        self._held.setdefault(int(row["id"][:8], 16) * self._buckets >> 32, []).append(line)
        self._size += len(line)
        if self._size >= HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        for bucket in sorted(self._held):
            frame = self._packer.compress("".join(self._held[bucket]).encode())
            self.index.append([bucket, self._place, len(frame)])
            self._place += self._handle.write(frame)
        self._held, self._size = {}, 0


def arrange(
    folder: Path, units: Sequence[str], splitters: dict[str, Splitter], buckets: int, **options: Any
) -> Counts:
    """Write `documents/` from `.work/kept/` and remove `.work/`; {split: {"documents", "bytes", "chars"}}."""
    work = folder / ".work"
    write_json(work / "splits.json", {source: splitter.state() for source, splitter in sorted(splitters.items())})
    size = sum((work / f"kept/{unit}.frames").stat().st_size for unit in units)
    jobs = [Unit(f"{number:05d}", size // buckets, {"bucket": number}) for number in range(buckets)]
    told = run(Job(f"{HERE}:arrange_bucket", {"units": list(units)}), jobs, folder, title="arrange", **options)
    for split in SPLITS:
        path = documents_path(folder, split)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as whole:
            for job in jobs:
                with (work / f"arranged/{job.name}.{split}.zst").open("rb") as part:
                    shutil.copyfileobj(part, whole, 2**20)
    shutil.rmtree(work)
    return {
        split: {name: sum(row[split][name] for row in told) for name in ("documents", "bytes", "chars")}
        for split in SPLITS
    }


def arrange_bucket(settings: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """Sort the documents of one bucket into the splits.

    Of records with one id (a text that is twice in a source, where no duplicates were looked for) one is kept.
    """
    watch.at(0)
    states = json.loads((folder / ".work/splits.json").read_text(encoding="utf-8"))
    splitters = {source: Splitter.of(state) for source, state in states.items()}
    rows = {row["id"]: row for row in _bucket(folder, settings["units"], unit.payload["bucket"])}
    counts = {split: {"documents": 0, "bytes": 0, "chars": 0} for split in SPLITS}
    names = [f".work/arranged/{unit.name}.{split}.zst" for split in SPLITS]
    with ExitStack() as stack:
        paths = [stack.enter_context(atomic_path(folder / name)) for name in names]
        outputs = {split: stack.enter_context(writer(path)) for split, path in zip(SPLITS, paths, strict=True)}
        for name in sorted(rows):
            row = rows[name]
            split = splitters[row["source"]].side(row["cluster"])
            write_document(outputs[split], {field: row[field] for field in FIELDS})
            counts[split]["documents"] += 1
            counts[split]["bytes"] += len(row["text"].encode())
            counts[split]["chars"] += len(row["text"])
    return Outcome(names, counts)


def _bucket(folder: Path, units: Sequence[str], bucket: int) -> Iterator[dict[str, Any]]:
    unpacker = zstandard.ZstdDecompressor()
    for unit in units:
        index = json.loads((folder / f".work/kept/{unit}.json").read_text(encoding="utf-8"))
        frames = [(place, length) for number, place, length in index if number == bucket]
        if not frames:
            continue
        with (folder / f".work/kept/{unit}.frames").open("rb") as handle:
            for place, length in frames:
                handle.seek(place)
                lines = unpacker.decompress(handle.read(length)).decode().split("\n")  # texts hold other line ends
                yield from (json.loads(line) for line in lines if line)
