"""How fast the corpus factory is: each stage in one process, in MB of text a second of processor time, and its memory.

    python bench/corpus_speed.py DATA [--out DIR]

DATA is the folder of public texts that LUHUO_TEST_DATA names (Chinese laws, documents and paragraphs, English articles
and stories). Processor time hardly depends on what else the machine does. One thread.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import time
from pathlib import Path
from typing import Any

FOLDERS = {
    "zh_laws": "text",
    "zh_docs": "text",
    "zh_classics": "text",
    "zh_wiki_qa": "text",
    "chinese_poetry": "paragraphs",
    "wikitext2": "text",
    "tinystories_sample": "text",
    "tinyshakespeare": "text",
    "cranfield": "text",
}
"""Folders of the data, and the field of their text."""


def main() -> None:
    """Run the three stages and print a row each."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/corpus_speed"))
    options = parser.parse_args()

    from luhuo.core.artifact import produce
    from luhuo.stages import configured

    shutil.rmtree(options.out, ignore_errors=True)
    sources = [
        {"name": name, "path": str(options.data / name), "text_field": field}
        for name, field in FOLDERS.items()
        if (options.data / name).is_dir()
    ]
    rows: list[list[Any]] = []

    def made(stage: str, **values: Any) -> dict[str, Any]:
        start = time.process_time()
        done = produce(stage, configured(stage, values | {"executor": "inline"}), options.out / stage)
        seconds = time.process_time() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        disk = sum(file.stat().st_size for file in done.path.rglob("*") if file.is_file())
        rows.append([stage, seconds, peak, disk])
        return done.manifest["metrics"]

    size = made("annotate", sources=sources)["bytes"] / 1e6
    annotated = str(options.out / "annotate")
    made("deduplicate", annotated=annotated)
    made("filter", annotated=annotated, duplicates=str(options.out / "deduplicate"))
    print((options.out / "annotate/steps.log").read_text(encoding="utf-8"))
    print("| stage | cpu s | MB/s of one core | peak MB | on disk over text |\n| --- | --: | --: | --: | --: |")
    for stage, seconds, peak, disk in rows:
        print(f"| {stage} | {seconds:.1f} | {size / seconds:.1f} | {peak:.0f} | {disk / 1e6 / size:.2f} |")
    total = sum(row[1] for row in rows)
    print(f"| together | {total:.1f} | {size / total:.1f} | | |")
    report = json.loads((options.out / "filter/report.json").read_text(encoding="utf-8"))
    print(f"\n{report['kept']:,} of {report['read']:,} documents kept; dropped: {report['dropped']}")


if __name__ == "__main__":
    main()
