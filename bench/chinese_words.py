"""How far the word borders that whole-word masking uses agree with a dictionary's (jieba), on held-out Chinese.

    luhuo run recipes/encoder.yaml
    pip install jieba
    python bench/chinese_words.py runs/encoder

Printed for tokens alone, for the pieces of one character joined, and with pairs learned at several strengths: F1 of
whole words, and of borders inside runs of Chinese characters. jieba is a yardstick here, no truth: a third of the text
is a novel in old Chinese.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from pathlib import Path

import jieba
import numpy as np

from luhuo.corpus.documents import read_documents
from luhuo.corpus.shards import open_shards
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.train.denoising import words as module

HAN = re.compile("[\u4e00-\u9fff]{2,}")


def spans(parts: Iterable[bytes]) -> set[tuple[int, int]]:
    """Begin and end of each part, in bytes."""
    found, at = set(), 0
    for part in parts:
        found.add((at, at + len(part)))
        at += len(part)
    return found


def agreement(tokenizer: Tokenizer, runs: list[str], words: module.Words | None) -> tuple[float, float]:
    """F1 of words and of borders; without `words` every token is one."""
    counts = np.zeros((2, 3))
    for run in runs:
        ids = np.array(tokenizer.encode(run))
        numbers = np.arange(len(ids)) if words is None else words.numbers(ids)
        parts = [b"".join(map(tokenizer.token_bytes, ids[numbers == n].tolist())) for n in range(numbers.max() + 1)]
        ours, theirs = spans(parts), spans(part.encode() for part in jieba.lcut(run))
        counts[0] += len(ours), len(theirs), len(ours & theirs)
        ends = [{end for _, end in some if end < len(run.encode())} for some in (ours, theirs)]
        counts[1] += len(ends[0]), len(ends[1]), len(ends[0] & ends[1])
    word, border = 2 * counts[:, 2] / (counts[:, 0] + counts[:, 1])
    return float(word), float(border)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--documents", type=int, default=120)
    arguments = parser.parse_args()
    tokenizer = Tokenizer.load(arguments.run / "tokenizer")
    texts = [d["text"] for d in read_documents(arguments.run / "text", "valid") if d["lang"] == "zh"]
    runs = [run for text in texts[: arguments.documents] for run in HAN.findall(text)]
    print(f"{len(runs)} runs of characters")
    print("tokens alone          words {:.3f}  borders {:.3f}".format(*agreement(tokenizer, runs, None)))
    print(
        "characters joined     words {:.3f}  borders {:.3f}".format(
            *agreement(tokenizer, runs, module.Words(tokenizer))
        )
    )
    for strength in (1.0, 3.0, 4.0, 5.0, 6.0):
        module.COHESION = strength
        words = module.Words(tokenizer)
        words.learn(tokens for tokens, _ in open_shards(arguments.run / "shards" / "train", verify=False))
        print(
            "pairs above {:.0f} nats    words {:.3f}  borders {:.3f}".format(
                strength, *agreement(tokenizer, runs, words)
            )
        )


if __name__ == "__main__":
    main()
