"""Decontamination: speed on clean text, and real items planted into it, exact and edited:
python bench/decontamination.py DATA (the folder with gsm8k/, cmmlu/, mmlu/, arc/, zh_laws/ and so on).
"""

from __future__ import annotations

import gzip
import json
import random
import resource
import sys
import time
from pathlib import Path

from luhuo.corpus.decontaminate import Benchmarks, Item
from luhuo.corpus.decontaminate.items import read_items

NAMES = ("gsm8k", "cmmlu", "mmlu", "arc")
CLEAN = (
    "zh_laws/laws.jsonl.gz",
    "zh_docs/docs.jsonl.gz",
    "chinese_poetry/poems.jsonl.gz",
    "wikitext2/test_articles.jsonl.gz",
    "gsm8k/train.jsonl.gz",
)
PLANTED = 600


def main() -> None:
    """Print both tables."""
    data = Path(sys.argv[1])
    started = time.process_time()
    index = Benchmarks.load({name: data / name for name in NAMES})
    items = sum(count["items"] for count in index.counts.values())
    print(f"index of {items:,} items: {time.process_time() - started:.1f} s of processor time")
    print("clean text: MB/s of processor time, documents, documents with a hit")
    for name in CLEAN:
        texts = _texts(data / name)
        size, started = sum(len(text.encode()) for text in texts) / 1e6, time.process_time()
        hits = sum(map(bool, index.look(texts)))
        print(f"  {name}: {size / (time.process_time() - started):.1f} MB/s, {len(texts)}, {hits}")
    print(f"found of {PLANTED} items planted in clean text: exact, 2% of the words or characters edited, 5%")
    pages = [text[:3000] for text in _texts(data / "wikitext2/test_articles.jsonl.gz") + _texts(data / CLEAN[0])[:50]]
    for name in NAMES:
        rng = random.Random(0)
        chosen = rng.sample(list(read_items(data / name)), PLANTED)
        row = []
        for share in (0.0, 0.02, 0.05):
            texts = [f"{rng.choice(pages)}\n{_edited(_body(item), share, rng)}" for item in chosen]
            found = index.hits(texts)
            row.append(sum(item.id in hits.get(name, []) for item, hits in zip(chosen, found, strict=True)))
        print(f"  {name}: {', '.join(map(str, row))}")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:,.0f} MB")


def _texts(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        rows = [json.loads(line) for line in handle]
    parts = [row.get("text") or row.get("paragraphs") or row.get("rows") or row["question"] for row in rows]
    return [part if isinstance(part, str) else "\n".join(map(str, part)) for part in parts]


def _body(item: Item) -> str:
    return "\n".join((item.question, *(f"{c}. {text}" for c, text in zip("ABCDEF", item.options, strict=False))))


def _edited(text: str, share: float, rng: random.Random) -> str:
    han = sum(c >= "\u3400" for c in text) > len(text) / 3
    units = list(text) if han else text.split(" ")
    for _ in range(max(1, round(len(units) * share)) if share else 0):
        place, kind = rng.randrange(len(units)), rng.randrange(3)
        new = rng.choice("的一是在不了有和人这") if han else rng.choice(("maybe", "stone", "river", "quick"))
        units[place : place + (kind != 2)] = [new] if kind else []
    return ("" if han else " ").join(units)


if __name__ == "__main__":
    main()
