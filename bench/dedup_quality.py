"""Which pieces see an edited copy: python bench/dedup_quality.py DATA (the folder of LUHUO_TEST_DATA).

For stories and encyclopedia articles, 200 each, every text with 5% of its characters or words edited: the Jaccard
similarity of the pieces (lowest twentieth and middle), the share of the characters that agree when aligned, and the
share of copies the stage finds; then the same measures between different texts (highest thousandth).
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import tempfile
from pathlib import Path

import numpy as np
from rapidfuzz.distance import OSA

sys.path.insert(0, str(Path(__file__).parent))

import dedup_corpus

from luhuo.core.artifact import produce
from luhuo.corpus.dedup import verdicts
from luhuo.corpus.dedup.folding import fold_text
from luhuo.corpus.dedup.similarity import jaccard
from luhuo.corpus.dedup.stages import DeduplicateStage, Near
from luhuo.corpus.documents import writer
from luhuo.corpus.factory import records

COUNT = 200


def texts(data: Path) -> dict[str, list[str]]:
    """Real texts of two kinds."""
    stories = gzip.decompress((data / "tinystories_sample/tinystories_sample.txt.gz").read_bytes()).decode()
    articles = gzip.decompress((data / "zh_wiki_qa/drcd_corpus.jsonl.gz").read_bytes()).decode().splitlines()
    found = {
        "English stories": [story.strip() for story in stories.split("<|endoftext|>") if len(story) > 300],
        "Chinese articles": [json.loads(line)["text"] for line in articles],
    }
    return {name: random.Random(0).sample(some, COUNT) for name, some in found.items()}


def share_found(originals: list[str], copies: list[str]) -> float:
    """The share of copies in one cluster with their original."""
    with tempfile.TemporaryDirectory() as name:
        artifact = Path(name) / "annotated"
        rows = [{"id": f"{n:032x}", "text": text} for n, text in enumerate([*originals, *copies])]
        with writer(records.records_path(artifact, "all")) as handle:
            for row in rows:
                handle.write(records.to_line(row | {"source": "all", "origin": {}}))
        unit = {"name": "all", "source": "all", "records": len(rows), "bytes": 1}
        (artifact / records.UNITS).write_text(json.dumps({"units": [unit]}))
        stage = DeduplicateStage.parse({"annotated": str(artifact), "executor": "inline", "paragraphs": None})
        done = produce("deduplicate", stage, Path(name) / "done").path
        clusters = [verdict.cluster for verdict in verdicts(done, "all")]
    return float(np.mean([one == two for one, two in zip(clusters[:COUNT], clusters[COUNT:], strict=True)]))


def row(title: str, pairs: list[tuple[str, str]], at: tuple[float, float], found: float | None = None) -> None:
    """Print the measures of some pairs at two percentiles."""
    folded = [(fold_text(one), fold_text(two)) for one, two in pairs]
    measures = {
        "characters": [jaccard(one, two, Near()) for one, two in folded],
        "words": [jaccard(one, two, Near(pieces="words")) for one, two in pairs],
        "aligned": [OSA.normalized_similarity(one, two) for one, two in folded],
    }
    told = "  ".join(
        f"{name} " + " ".join(f"{value:.2f}" for value in np.percentile(m, at)) for name, m in measures.items()
    )
    print(f"{title:52} {told}" + ("" if found is None else f"  found {found:.3f}"), flush=True)


def main() -> None:
    """Print a row for each kind of text and edit."""
    rng = random.Random(1)
    for name, originals in texts(Path(sys.argv[1])).items():
        for words in (False, True) if "English" in name else (False,):
            copies = [dedup_corpus.edited(text, 0.05, rng, words) for text in originals]
            title = f"{name}, 5% of {'words' if words else 'characters'}"
            row(title, list(zip(originals, copies, strict=True)), (5, 50), share_found(originals, copies))
        others = [tuple(rng.sample(originals, 2)) for _ in range(1000)]
        row(f"{name}, two different ones", [(one, two) for one, two in others], (50, 99.9))


if __name__ == "__main__":
    main()
