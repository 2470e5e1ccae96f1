"""How fast is each family of signals? MB of UTF-8 a second of processor time, on one core, on real text.

    LUHUO_TEST_DATA=DIR OMP_NUM_THREADS=1 python bench/corpus_rules.py [MB]

The text is that of `bench/corpus_clean.py`, taken in turn from all sources of a language until MB (default 20) are
together; English has less, so it is read more than once.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from pathlib import Path

from corpus_clean import sources

from luhuo.core.memory import keep_freed_memory
from luhuo.corpus import signals

BATCH = 1_000_000
"""Characters handed over at a time, as the annotate stage does."""


def mixture(texts: list[list[str]], size: float) -> list[list[str]]:
    """Batches of texts taken in turn from each source, `size` MB of UTF-8 in all."""
    batches: list[list[str]] = [[]]
    held, left = 0, size * 1e6
    for group in itertools.zip_longest(*(itertools.chain(*itertools.repeat(source, 20)) for source in texts)):
        for text in filter(None, group):
            batches[-1].append(text)
            held += len(text)
            left -= len(text.encode())
            if held > BATCH:
                batches.append([])
                held = 0
        if left <= 0:
            break
    return batches


def main() -> None:
    """Print a table: family, English, Chinese."""
    keep_freed_memory()  # as the annotate stage does
    size = float(sys.argv[1]) if len(sys.argv) > 1 else 20
    real = sources(Path(os.environ["LUHUO_TEST_DATA"])).values()
    rates: dict[str, dict[str, float]] = {}
    for lang in ("en", "zh"):
        batches = mixture([texts for of, texts in real if of == lang], size)
        megabytes = sum(len(text.encode()) for batch in batches for text in batch) / 1e6
        signals.measure(["warm-up"], lang)
        for name, chosen in [(f, [f]) for f in signals.families(lang)] + [("all together", None)]:
            start = time.process_time()
            for batch in batches:
                signals.measure(batch, lang, chosen)
            rates.setdefault(name, {})[lang] = megabytes / (time.process_time() - start)
        texts = sum(map(len, batches))
        print(f"{lang}: {megabytes:.1f} MB, {texts} texts, {megabytes * 1e6 / texts:.0f} bytes each")
    print(f"{'family':14} {'en MB/s':>8} {'zh MB/s':>8}")
    for name, row in rates.items():
        print(f"{name:14} " + " ".join(f"{row[lang]:8.1f}" if lang in row else " " * 8 for lang in ("en", "zh")))


if __name__ == "__main__":
    main()
