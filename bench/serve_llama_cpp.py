"""Sixteen chat clients over HTTP here, and as many conversations in llama.cpp's own batching: tokens a second.

    python bench/serve_llama_cpp.py --peer-python PATH [--model REF] [--formats bf16,int8,int4] [--seconds 20]
        [--spins 0,1000,20000,300000]

Ours is the whole server (`luhuo serve`, as in bench/serve_load.py): HTTP, chat template, sampling at temperature 0.8,
streaming. Theirs is the library in one loop (continuous batching, greedy), with conversations of the same numbers of
tokens and nothing around it. They take turns, twice each; the rate is generated tokens by the time of everything. The
target is 1.2 times theirs, for the same kind of weights. With `--spins` a server is measured for each of these numbers
of looks before a waiting thread sleeps (300,000 is OpenMP's own; without it, what `luhuo serve` sets).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
from pathlib import Path

from gguf_llama_cpp import Peer
from serve_load import WORDS, load, served, shares

from luhuo.files.references import resolve
from luhuo.model.gguf import export_gguf
from luhuo.model.load import load as load_model

WORD_RANGE = [10, 150]
PAIRS = {"bf16": "bf16", "int8": "q8_0_plain", "int4": "q4_0"}


def conversations(tokenizer, count: int) -> list[list[list[int]]]:
    """The turns of `serve_load.converse` as numbers of tokens: [[read, written], [read, written]]."""
    chance, found = random.Random(0), []
    for _ in range(count):
        words = len(tokenizer.encode(" ".join(chance.choices(WORDS, k=chance.randrange(*WORD_RANGE)))))
        found.append([[words + 30, chance.randrange(10, 120)], [15, chance.randrange(10, 60)]])
    return found


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True, help="Python of the environment with llama-cpp-python")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--formats", default="bf16,int8,int4")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--spins", type=lambda text: [int(part) for part in text.split(",")], default=[None])
    given = parser.parse_args()
    reference = str(resolve(given.model).path)
    model = load_model(reference, dtype="fp32", device="cpu")
    talks = conversations(model.tokenizer, 4 * given.clients)
    peer = Peer(given.peer_python, given.threads)
    with tempfile.TemporaryDirectory() as folder:
        for kind in given.formats.split(","):
            file = Path(folder) / f"{kind}.gguf"
            export_gguf(model, file, PAIRS[kind])
            for spins in given.spins:
                ours, theirs, first = [], [], []
                async with served(reference, "--dtype", kind, spins=spins) as url:
                    # Shapes are compiled, and the cache has grown.
                    await load(url, given.clients, given.seconds / 2, WORD_RANGE, 0)
                    for turn in range(given.rounds):
                        seen, took = await load(url, given.clients, given.seconds, WORD_RANGE, 1 + turn)
                        ours.append(seen.tokens / took)
                        first += seen.first
                        found = peer("batched", path=file, talks=talks, sequences=given.clients)
                        theirs.append(found["tokens_per_s"])
                row = {"weights": kind, "spins": spins, "luhuo": ours, "llama.cpp": theirs}
                row |= {"ratio": statistics.median(ours) / statistics.median(theirs), "first_token": shares(first)}
                print(json.dumps(row), flush=True)
            pure = peer("batched", path=file, talks=[[[1, 128]]] * given.clients, sequences=given.clients)
            print(json.dumps({"weights": kind, "llama.cpp, writing only": pure["tokens_per_s"]}), flush=True)
    peer.close()


if __name__ == "__main__":
    asyncio.run(main())
