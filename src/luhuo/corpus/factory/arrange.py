"""What is kept, in the order of ids and split by cluster: equal bytes whatever order it came in.

The ids are hashes, so documents of all sources come out well mixed. Buckets by the first digits of the id are sorted
one at a time, so that memory holds a bucket and not the corpus.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from luhuo.corpus.documents import SPLITS, documents_path, write_document, writer
from luhuo.corpus.factory import records
from luhuo.corpus.split import Splitter
from luhuo.files.streams import open_text

BUCKET_BYTES = 64_000_000
ID = slice(len('{"id":"'), len('{"id":"') + 32)
CLUSTER = slice(ID.stop + len('","cluster":"'), ID.stop + len('","cluster":"') + 32)
SOURCE = CLUSTER.stop + len('","source":"')
"""Where these stand in a line of `.work/kept/`, which need not be parsed for them."""
MOST_BUCKETS = 256
"""Files open at a time."""


def arrange(folder: Path, units: Sequence[str], valid: float, test: float, seed: int) -> dict[str, dict[str, int]]:
    """Write `documents/` from `.work/kept/` and remove `.work/`; {split: {"documents", "bytes", "chars"}}.

    Of records with one id (a text that is twice in a source, where no duplicates were looked for) the first is kept.
    """
    work = folder / ".work"
    packed = sum((work / f"kept/{unit}.jsonl.zst").stat().st_size for unit in units)
    buckets = min(MOST_BUCKETS, 1 + 4 * packed // BUCKET_BYTES)
    splitters: dict[str, Splitter] = {}
    places = [work / "buckets" / f"{number:03d}.jsonl.zst" for number in range(buckets)]
    with ExitStack() as stack:
        handles = [stack.enter_context(writer(place, level=1)) for place in places]
        for unit in units:
            with open_text(work / f"kept/{unit}.jsonl.zst") as lines:
                for line in lines:
                    name, cluster, source = line[ID], line[CLUSTER], line[SOURCE : line.index('"', SOURCE)]
                    splitters.setdefault(source, Splitter(valid, test, seed)).see(cluster)
                    handles[int(name[:8], 16) * buckets >> 32].write(line)
    fields = ("id", "text", "lang", "source", "licence")
    counts = {split: {"documents": 0, "bytes": 0, "chars": 0} for split in SPLITS}
    with ExitStack() as stack:
        outputs = {split: stack.enter_context(writer(documents_path(folder, split))) for split in SPLITS}
        for place in places:
            rows = {row["id"]: row for row in records.read_lines(place)}
            for name in sorted(rows):
                row = rows[name]
                split = splitters[row["source"]].side(row["cluster"])
                write_document(outputs[split], {field: row[field] for field in fields})
                counts[split]["documents"] += 1
                counts[split]["bytes"] += len(row["text"].encode())
                counts[split]["chars"] += len(row["text"])
    shutil.rmtree(work)
    return counts
