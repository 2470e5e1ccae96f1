"""Near-duplicate removal by datatrove or data-juicer over a folder of bench/dedup_corpus.py; run by bench/dedup.py.

    PYTHON bench/dedup_peers.py datatrove|datatrove-wide|data-juicer|data-juicer-wide FOLDER OUT

PYTHON is that of an environment of its own, which has the tool and not Luhuo. The plain names use the tool's default
settings; "wide" gives it the threshold at which copies with 5% of edits are found. Each writes what it keeps, as
texts, and OUT/kept.json, the list of ids.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def datatrove(folder: Path, out: Path, buckets: int, hashes: int) -> list[str]:
    """The four steps of datatrove, a language at a time: its shingles are words, which depend on the language."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter
    from datatrove.utils.typeshelper import Languages

    config = MinhashConfig(num_buckets=buckets, hashes_per_bucket=hashes)
    kept: list[str] = []
    for lang, name in (("en", Languages.english), ("zh", Languages.mandarin_chinese)):
        base = out / lang
        read = JsonlReader(str(folder), glob_pattern=f"{lang}.jsonl")
        signatures, found, lost = (str(base / step) for step in ("signatures", "buckets", "remove"))
        steps = (
            ([read, MinhashDedupSignature(signatures, config=config, language=name)], 1),
            ([MinhashDedupBuckets(signatures, found, config=config)], buckets),
            ([MinhashDedupCluster(found, lost, config=config)], 1),
            ([read, MinhashDedupFilter(lost), JsonlWriter(str(base / "kept"), compression=None)], 1),
        )
        for number, (pipeline, tasks) in enumerate(steps):
            logs = str(base / f"logs{number}")
            LocalPipelineExecutor(pipeline=pipeline, tasks=tasks, workers=1, logging_dir=logs).run()
        for file in sorted((base / "kept").glob("*.jsonl")):
            kept += [json.loads(line)["id"] for line in file.open(encoding="utf-8")]
    return kept


def data_juicer(folder: Path, out: Path, threshold: float) -> list[str]:
    """The operator alone over a data set of the library it uses: no start-up of its executor is counted."""
    from data_juicer.ops.deduplicator.document_minhash_deduplicator import DocumentMinhashDeduplicator
    from datasets import load_dataset

    files = [str(folder / f"{lang}.jsonl") for lang in ("en", "zh")]
    data = load_dataset("json", data_files=files, split="train", cache_dir=str(out / "cache"))
    operator = DocumentMinhashDeduplicator(tokenization="character", jaccard_threshold=threshold)
    data = data.map(operator.compute_hash)
    data, _ = operator.process(data)
    data.to_json(str(out / "kept.jsonl"), force_ascii=False)
    return list(data["id"])


def main() -> None:
    """Run one tool."""
    tool, folder, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    if tool.startswith("datatrove"):
        kept = datatrove(folder, out, *((14, 8) if tool == "datatrove" else (47, 4)))
    else:
        kept = data_juicer(folder, out, 0.7 if tool == "data-juicer" else 0.5)
    (out / "kept.json").write_text(json.dumps(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
