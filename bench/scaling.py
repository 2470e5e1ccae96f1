"""Does the law of small runs predict a larger one? A grid on real Chinese and English text, and runs not fitted.

    python bench/scaling.py --data DIR --out DIR [--sizes 54k,90k,…] [--levels 2.5e10,5e10,…]
                            [--held-out 156k:6e11]

DIR holds folders of text (zh_laws, tinystories_sample), as in LUHUO_TEST_DATA.
Every size is trained to the same computes; the held-out runs spend at least three times the largest of them. Prints
the law, and for each held-out run the predicted loss with its 95% interval beside the measured one. The same command
continues what was cut off.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from luhuo.core.artifact import produce
from luhuo.model.count import flops_per_token
from luhuo.stages import configured
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.train.sizes import derive

SOURCES = (
    ("laws", "zh_laws/laws.jsonl.gz", "zh", 4.0, 0.03),
    ("stories", "tinystories_sample/tinystories_sample.txt.gz", "en", 2.0, 0.0),
)
"""Name, file, language, MB, share held out. The stories are one file: pieces of it would not be held out at random."""
VOCABULARY, LENGTH, BATCH, FEWEST_STEPS, SEED = 512, 128, 512, 60, 5


def material(data: Path, out: Path) -> dict[str, str]:
    """Corpus, tokenizer and shards."""
    sources = [
        {"name": name, "path": str(data / path), "lang": lang, "max_mb": size, "piece_chars": 4000}
        | {"valid": valid, "test": 0.0}
        for name, path, lang, size, valid in SOURCES
    ]
    stages: list[tuple[str, str, dict[str, Any]]] = [
        ("text", "corpus", {"sources": sources}),
        ("tokenizer", "tokenizer", {"corpus": str(out / "text"), "vocab_size": VOCABULARY}),
        ("shards", "shards", {"corpus": str(out / "text"), "tokenizer": str(out / "tokenizer")}),
    ]
    for name, stage, values in stages:
        produce(stage, configured(stage, values | {"seed": SEED}, name), out / name)
    return {"shards": str(out / "shards"), "tokenizer": str(out / "tokenizer")}


def ladder(size: str, levels: list[float], texts: dict[str, str], folder: Path) -> str:
    """One size at the given computes; its directory."""
    vocab = Tokenizer.load(texts["tokenizer"]).vocab_size
    per_token = flops_per_token(derive(size, vocab, length=LENGTH, batch=BATCH).model, LENGTH)
    rungs = [count for level in levels if (count := round(level / per_token)) >= FEWEST_STEPS * BATCH]
    values = {"size": size, "rungs": rungs, "length": LENGTH, "batch": BATCH, "decay": 0.3, "warmup": 0.1}
    values |= {"eval_tokens": 20_480, "threads": 1, "device": "cpu", "seed": SEED}
    produce("scaling-run", configured("scaling-run", texts | values, size), folder)
    return str(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("LUHUO_TEST_DATA"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", default="54k,156k,280k,90k,490k")
    parser.add_argument("--levels", default="2.5e10,5e10,1e11,2e11")
    parser.add_argument("--held-out", default="156k:6e11", help="SIZE:FLOPS, comma-separated")
    parser.add_argument("--target", default="1e13")
    options = parser.parse_args()
    if options.data is None:
        parser.error("give --data or set LUHUO_TEST_DATA")
    texts = material(Path(options.data), options.out)
    levels = [float(level) for level in options.levels.split(",")]
    runs = [ladder(size, levels, texts, options.out / "grid" / size) for size in options.sizes.split(",")]
    held = []
    for i, wanted in enumerate(filter(None, options.held_out.split(","))):
        size, _, flops = wanted.partition(":")
        held.append(ladder(size, [float(flops)], texts, options.out / "grid" / f"held-out-{i}"))
    values = {"runs": runs, "held_out": held, "targets": [options.target], "seed": SEED}
    done = produce("scaling-law", configured("scaling-law", values, "law"), options.out / "law")
    found = json.loads((done.path / "law.json").read_text(encoding="utf-8"))
    print(json.dumps({name: found[name] for name in ("law", "intervals", "spread", "counts", "exponents")}, indent=1))
    for point in found["points"]:
        print("{parameters:>9,} {tokens:>9,} {flops:.2e} {loss:.4f} {fitted:.4f} {residual:+.4f}".format(**point))
    for text in found["words"]:
        print(text["en"])


if __name__ == "__main__":
    main()
