"""Near-duplicate removal by Luhuo, datatrove and data-juicer on the same texts.

    python -m venv /tmp/datatrove && /tmp/datatrove/bin/pip install "datatrove[processing,io]" spacy jieba
    python -m venv /tmp/data-juicer && /tmp/data-juicer/bin/pip install py-data-juicer scipy aiohttp
    LUHUO_TEST_DATA=DIR python bench/dedup.py 200 --datatrove /tmp/datatrove --data-juicer /tmp/data-juicer

Prints a row a tool: seconds of processor time of all its processes, MB of text per such second, the highest memory of
a process, and how many of the planted copies were removed (recall) and how many of the removed were such (precision).
One process works at a time. Reading, and writing what is kept, is part of it for everyone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import dedup_corpus

HERE = Path(__file__).parent
UNIT_BYTES = 16_000_000


def write_records(folder: Path) -> Path:
    """The corpus as the annotate stage would hand it on."""
    from luhuo.corpus.documents import writer
    from luhuo.corpus.factory import records

    artifact, units = folder / "annotated", []
    for lang in ("en", "zh"):
        lines = (folder / f"{lang}.jsonl").read_text(encoding="utf-8").splitlines()
        step = max(1, len(lines) * UNIT_BYTES // max((folder / f"{lang}.jsonl").stat().st_size, 1))
        for number, first in enumerate(range(0, len(lines), step)):
            name = f"{lang}-{number:05d}"
            rows = [json.loads(line) for line in lines[first : first + step]]
            with writer(records.records_path(artifact, name), level=records.LEVEL) as handle:
                for row in rows:
                    more = {"source": lang, "licence": "", "script": "", "origin": {"file": row["id"], "line": 1}}
                    handle.write(records.to_line(row | more | {"id": f"{abs(hash_of(row['id'])):032x}"}))
            size = sum(len(row["text"].encode()) for row in rows)
            units.append({"name": name, "source": lang, "records": len(rows), "bytes": size})
    (artifact / records.UNITS).write_text(json.dumps({"units": units}), encoding="utf-8")
    return artifact


def hash_of(name: str) -> int:
    """128 bits of a name."""
    import hashlib

    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")


def luhuo(folder: Path, out: Path) -> None:
    """Our stage, and what it keeps written as text."""
    from luhuo.core.artifact import produce
    from luhuo.corpus.dedup import verdicts
    from luhuo.corpus.dedup.stages import DeduplicateStage
    from luhuo.corpus.documents import writer
    from luhuo.corpus.factory import records

    stage = DeduplicateStage.parse({"annotated": str(folder / "annotated"), "executor": "inline", "paragraphs": None})
    done = produce("deduplicate", stage, out / "deduplicated").path
    kept = []
    with writer(out / "kept.jsonl.zst", level=3) as handle:
        for unit in records.units(stage.annotated):
            name = unit["name"]
            for row, verdict in zip(records.read_records(stage.annotated, name), verdicts(done, name), strict=True):
                if verdict.kept:
                    kept.append(row["origin"]["file"])
                    handle.write(records.to_line(row))
    (out / "kept.json").write_text(json.dumps(kept), encoding="utf-8")


def measure(command: list[str]) -> tuple[float, float]:
    """(processor seconds, highest memory of a process in MB) of a command and its processes."""
    code = (
        "import json,resource,subprocess,sys\n"
        "done = subprocess.run(sys.argv[1:], stdout=sys.stderr)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps([done.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3]))\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "LUHUO_LANG": "en"}
    told = subprocess.run(
        [sys.executable, "-c", code, *command], stdout=subprocess.PIPE, text=True, check=True, env=environment
    )
    status, seconds, memory = json.loads(told.stdout)
    if status:
        sys.exit(f"failed: {' '.join(command)}")
    return seconds, memory


def quality(groups: dict[str, str], kept: list[str]) -> tuple[float, float]:
    """(recall, precision): of the documents too many in each group those removed; of the removed those too many."""
    size, left = Counter(groups.values()), Counter(groups[name] for name in kept)
    too_many = sum(size.values()) - len(size)
    right = sum(min(size[group] - left[group], size[group] - 1) for group in size)
    return right / too_many, right / max(len(groups) - len(kept), 1)


def main() -> None:
    """Make the corpus, run the tools, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("megabytes", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--datatrove", type=Path, help="folder of its environment")
    parser.add_argument("--data-juicer", type=Path, help="folder of its environment")
    parser.add_argument("--wide", action="store_true", help="the peers also at the threshold of 5% of edits")
    parser.add_argument("--luhuo", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.luhuo:
        luhuo(*options.luhuo)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dedup_corpus.make(folder, options.megabytes, options.seed)
        write_records(folder)
        rows = [("luhuo", [sys.executable, __file__, "0", "--luhuo", name])]
        for tool, place in (("datatrove", options.datatrove), ("data-juicer", options.data_juicer)):
            for kind in ("", "-wide") if options.wide else ("",):
                if place:
                    rows.append(
                        (tool + kind, [str(place / "bin/python"), str(HERE / "dedup_peers.py"), tool + kind, name])
                    )
        texts = [json.loads(line)["text"] for lang in ("en", "zh") for line in (folder / f"{lang}.jsonl").open()]
        size = sum(len(text.encode()) for text in texts) / 1e6
        groups = json.loads((folder / "groups.json").read_text())
        print(f"{len(groups)} documents, {size:.1f} MB; seed {options.seed}", flush=True)
        del texts
        for tool, command in rows:
            out = folder / tool
            out.mkdir()
            seconds, memory = measure([*command, str(out)])
            recall, precision = quality(groups, json.loads((out / "kept.json").read_text()))
            print(
                f"{tool:18} {seconds:9.1f} s {size / seconds:8.2f} MB/s {memory:8.0f} MB   "
                f"recall {recall:.4f} precision {precision:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
