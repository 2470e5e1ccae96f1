"""Does cleaning matter? A model trained for equal tokens on a dirty corpus raw, deduplicated, and fully cleaned.

    python bench/corpus_matters.py [--documents 12000] [--rounds 6] [--tokens 400000] [--size 5m] [--seeds 0,1,2]
        [--out DIR]

The corpus is the world's dirty one (duplicates, advertising, mojibake, personal data, leaked test items between clean
pages); one tokenizer, trained on the raw text, serves all. Held out are clean pages of the world's test split: loss in
bits per byte, and how often the most likely token is the next one. Intervals: paired over seeds and pages.
What is finished in --out is not done again. One thread.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from pathlib import Path
from typing import Any

ARMS = ("raw", "deduplicated", "cleaned")


def corpora(options: argparse.Namespace) -> dict[str, Path]:
    """The three corpora: raw text as it came, without duplicates, and decided by the rules."""
    from luhuo.core.artifact import produce
    from luhuo.stages import configured

    def made(stage: str, name: str, **values: Any) -> Path:
        return produce(stage, configured(stage, values), options.out / name).path

    world = made(
        "world", "world", megabytes=1, dialogues=1000, dirty_documents=options.documents, dirty_rounds=options.rounds
    )
    raw = world / "dirty/corpus.jsonl"
    fields = {"question": ["messages"], "answer": ["response"], "id": ["id"]}
    test = {"world": {"path": str(world / "dialogue/test.jsonl"), **fields}}
    source = {"name": "dirty", "path": str(raw), "licence": "Apache-2.0"}
    annotated = made("annotate", "annotated", sources=[source], benchmarks=test)
    twins = made("deduplicate", "twins", annotated=str(annotated))
    both: dict[str, Any] = {"annotated": str(annotated), "duplicates": str(twins), "valid": 0.0, "test": 0.0}
    loose = {"standard": False, "leaks": "keep", "privacy": "keep"}
    found = {
        "deduplicated": made("filter", "deduplicated", **both, **loose),
        "cleaned": made("filter", "cleaned", **both),
    }
    return (
        {"raw": _raw(raw, options.out / "raw")}
        | {arm: _with_pages(folder, world, options.out / f"{arm}-text") for arm, folder in found.items()}
        | {"raw": _with_pages(options.out / "raw", world, options.out / "raw-text")}
    )


def _raw(file: Path, folder: Path) -> Path:
    """All rows as documents, in an order of their own."""
    from luhuo.corpus.documents import documents_path, write_document, writer

    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    random.Random(0).shuffle(rows)
    with writer(documents_path(folder, "train")) as handle:
        for row in rows:
            document = {"id": row["id"], "text": row["text"], "lang": row["lang"], "source": "dirty"}
            write_document(handle, document | {"licence": "Apache-2.0"})
    return folder


def _with_pages(corpus: Path, world: Path, folder: Path) -> Path:
    """The corpus' training documents, and clean pages of the world's test split to be scored on."""
    from luhuo.corpus.documents import documents_path, read_documents, write_document, writer

    with writer(documents_path(folder, "train")) as handle:
        for row in read_documents(corpus, "train"):
            write_document(handle, row)
    pages = [json.loads(line) for line in (world / "pages/test.jsonl").read_text(encoding="utf-8").splitlines()]
    for split in ("valid", "test"):
        with writer(documents_path(folder, split)) as handle:
            for number, row in enumerate(pages):
                document = {"id": f"page-{number}", "text": row["text"], "lang": row["lang"], "source": "pages"}
                write_document(handle, document | {"licence": "Apache-2.0"})
    return folder


def scored(model: Path, folder: Path) -> list[dict[str, float]]:
    """Bits, bytes, right tokens and tokens of each held-out page."""
    import math

    import torch

    import luhuo
    from luhuo.corpus.documents import read_documents

    found = []
    loaded = luhuo.load(str(model), dtype="fp32", device="cpu")
    for row in read_documents(folder, "valid"):
        ids = torch.tensor([[loaded.tokenizer.eos_id, *loaded.tokenizer.encode(row["text"])[:1000]]])
        with torch.inference_mode():
            logits = loaded(ids)[0, :-1].float()
        wanted = ids[0, 1:]
        bits = torch.nn.functional.cross_entropy(logits, wanted, reduction="sum").item() / math.log(2)
        size = len(loaded.tokenizer.decode(wanted.tolist()).encode())
        right = int((logits.argmax(-1) == wanted).sum())
        found.append({"bits": bits, "bytes": size, "right": right, "tokens": len(wanted)})
    return found


def main() -> None:
    """Train what is missing, and print the table."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=12_000)
    parser.add_argument(
        "--rounds", type=int, default=6, help="how dirty the corpus is: bad documents, in halves of the clean ones"
    )
    parser.add_argument("--tokens", type=int, default=400_000)
    parser.add_argument("--size", default="5m")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/corpus_matters"))
    options = parser.parse_args()

    from luhuo.core.artifact import produce
    from luhuo.stages import configured
    from luhuo.verify.statistics import paired_difference

    texts = corpora(options)
    tokenizer = options.out / "tokenizer"
    produce("tokenizer", configured("tokenizer", {"corpus": str(texts["raw"]), "vocab_size": 4096}), tokenizer)
    results: dict[str, list[list[dict[str, float]]]] = {arm: [] for arm in ARMS}
    for seed in map(int, options.seeds.split(",")):
        for arm in ARMS:
            shards = options.out / f"{arm}-shards"
            values: dict[str, Any] = {"corpus": str(texts[arm]), "tokenizer": str(tokenizer)}
            tokens = produce("shards", configured("shards", values), shards).manifest["metrics"]["tokens.train"]
            stage = {"shards": str(shards), "tokenizer": str(tokenizer), "size": options.size, "seed": seed}
            stage |= {"tokens": options.tokens, "threads": 1, "device": "cpu"}
            model = options.out / f"{arm}-{seed}"
            produce("pretrain", configured("pretrain", stage), model)
            results[arm].append(scored(model, texts[arm]))
            print(f"{arm} seed {seed}: {tokens:,} tokens in the corpus", flush=True)
    print("\n| corpus | bits per byte | over raw | next token right, % | over raw |\n| --- | --: | --- | --: | --- |")
    base: dict[str, list[float]] = {}
    for arm in ARMS:
        pages = list(zip(*results[arm], strict=True))
        rates = {
            "bits": [sum(run["bits"] / run["bytes"] for run in page) / len(page) for page in pages],
            "right": [sum(100 * run["right"] / run["tokens"] for run in page) / len(page) for page in pages],
        }
        base = base or rates
        cells = [arm]
        for name, digits in (("bits", 4), ("right", 2)):
            gap = paired_difference(base[name], rates[name], seed=0)
            each = [sum(run[name] for run in runs) / sum(run["bytes" if name == "bits" else "tokens"] for run in runs)
                    for runs in results[arm]]  # fmt: skip
            scale = 100 if name == "right" else 1
            told = ", ".join(f"{scale * value:.{digits}f}" for value in each)
            cells.append(f"{scale * sum(each) / len(each):.{digits}f} ({told})")
            cells.append("" if arm == "raw" else f"{gap.difference:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]")
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
