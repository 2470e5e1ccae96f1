"""Does the law of small runs predict a larger one? A grid on real Chinese and English text, and runs not fitted.

    python bench/scaling.py --data DIR --out DIR [--sizes 316k,970k,…] [--levels 3.125e11,6.25e11,…]
                            [--held-out 970k:7.5e12] [--vocabulary 2048 --length 256 --batch 2048]

DIR holds folders of text (SOURCES below), as LUHUO_TEST_DATA does. Every size is trained to the same computes; the
held-out runs spend at least three times the largest of them. Prints the law, and for each held-out run the predicted
loss with its 95% interval beside the measured one. The same command continues what was cut off.
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
    ("laws", "zh_laws/laws.jsonl.gz", "zh", 0.02),
    ("docs", "zh_docs/docs.jsonl.gz", "zh", 0.02),
    ("classics", "zh_classics/*.txt.gz", "zh", 0.0),
    ("stories", "tinystories_sample/tinystories_sample.txt.gz", "en", 0.0),
    ("shakespeare", "tinyshakespeare/input.txt.gz", "en", 0.0),
)
"""Name, file, language, share held out. Of few and long books a held-out one would be another kind of text."""
SEED = 5


def material(options: argparse.Namespace) -> dict[str, str]:
    """Corpus, tokenizer and shards."""
    out, data = options.out, Path(options.data)
    sources = [
        {"name": name, "path": str(data / path), "lang": lang, "piece_chars": 4000, "valid": valid, "test": 0.0}
        for name, path, lang, valid in SOURCES
    ]
    stages: list[tuple[str, str, dict[str, Any]]] = [
        ("text", "corpus", {"sources": sources}),
        ("tokenizer", "tokenizer", {"corpus": str(out / "text"), "vocab_size": options.vocabulary}),
        ("shards", "shards", {"corpus": str(out / "text"), "tokenizer": str(out / "tokenizer")}),
    ]
    for name, stage, values in stages:
        produce(stage, configured(stage, values | {"seed": SEED}, name), out / name)
    return {"shards": str(out / "shards"), "tokenizer": str(out / "tokenizer")}


def ladder(size: str, levels: list[float], name: str, texts: dict[str, str], options: argparse.Namespace) -> str:
    """One size at the given computes; its directory."""
    length, batch = options.length, options.batch
    vocab = Tokenizer.load(texts["tokenizer"]).vocab_size
    per_token = flops_per_token(derive(size, vocab, length=length, batch=batch).model, length)
    rungs = [count for level in levels if (count := round(level / per_token)) >= options.fewest * batch]
    values = {"size": size, "rungs": rungs, "length": length, "batch": batch, "decay": 0.3, "warmup": 0.1}
    values |= {"eval_tokens": 65_536, "threads": 1, "device": "cpu", "seed": SEED}
    folder = options.out / "grid" / name
    produce("scaling-run", configured("scaling-run", texts | values, name), folder)
    return str(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("LUHUO_TEST_DATA"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", default="316k,970k,1.6m,640k")
    parser.add_argument("--levels", default="3.125e11,6.25e11,1.25e12,2.5e12")
    parser.add_argument("--held-out", default="970k:7.5e12", help="SIZE:FLOPS, comma-separated")
    parser.add_argument("--target", default="1e15")
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--fewest", type=int, default=42, help="steps of the shortest rung")
    options = parser.parse_args()
    if options.data is None:
        parser.error("give --data or set LUHUO_TEST_DATA")
    texts = material(options)
    levels = [float(level) for level in options.levels.split(",")]
    runs = [ladder(size, levels, size, texts, options) for size in options.sizes.split(",")]
    held = []
    for i, wanted in enumerate(filter(None, options.held_out.split(","))):
        size, _, flops = wanted.partition(":")
        held.append(ladder(size, [float(flops)], f"held-out-{i}", texts, options))
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
