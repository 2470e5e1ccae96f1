"""How long a compiled step takes for so many tokens at once, and what guessing at the next ones gains.

    python bench/step_tokens.py steps [--model REF] [--dtype bf16] [--threads 1] [--before TREE]
    python bench/step_tokens.py guesses [--model REF] [--dtype bf16] [--threads 1] [--before TREE]

`steps`: milliseconds of a step that reads N tokens of one text, from 1 (a token of an answer) to a short prompt.
`guesses`: tokens a second of a greedy answer without guesses and with them (`speculate="auto"`), each timed once the
engine has had two answers to find out whether they pay: copying, correcting code, and a free answer, where there is
little to guess. `--before` names another checkout of this project; then both run as processes of their own, in turn.
Medians of `--repeats`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from luhuo.adapter.open import open_decoder
from luhuo.dialogue.conversation import Conversation
from luhuo.inference.decode_step import DecodeStep
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from luhuo.model.cache import KVCache
from luhuo.model.decoder import Decoder

HERE = Path(__file__).parent.parent
COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128)
TEXT = (
    "Ada bought a kiwi in Paris on Monday. Boris sold an apple to Clara, who lost an apron. The market opens at nine."
)
CODE = "def add(a, b):\n    retrun a + b\n\n\ndef mul(a, b):\n    return a * b\n\n\nprint(add(1, 2), mul(3, 4))\n"
ASKED = {
    "copying": f"Repeat the following text word by word:\n{TEXT}",
    "code": f"Correct the mistake in this program and print it again:\n{CODE}",
    "free": "Tell me about the sea.",
}


def step(model: Decoder, count: int) -> float:
    """Milliseconds of one step that reads so many tokens."""
    compiled, cache = DecodeStep.of(model), KVCache(model.config, 1, 256, model.dtype)
    assert compiled is not None and compiled.fits(cache, count, count), "not compiled here"
    ids = [(1000 + 300 * i) % model.config.vocab_size for i in range(count)]
    with torch.inference_mode():
        start = time.perf_counter()
        compiled.read([0], [ids], cache)
        return 1e3 * (time.perf_counter() - start)


def answer(engine: Engine, asked: str) -> float:
    """Tokens a second of a greedy answer."""
    talk = [Conversation.of([{"role": "user", "content": ASKED[asked]}])]
    start = time.perf_counter()
    found = engine.chat(talk, Sampling(max_tokens=160, temperature=0, ignore_eos=True))[0]
    return len(found.token_ids) / (time.perf_counter() - start)


def work(chosen: argparse.Namespace) -> None:
    """Measure once whenever a name comes in, one a line."""
    torch.set_num_threads(chosen.threads)
    model, engines = open_decoder(chosen.model, dtype=chosen.dtype, device="cpu").eval(), {}
    for line in sys.stdin:
        name = line.strip()
        if chosen.what == "steps":
            print(step(model, int(name)), flush=True)
            continue
        asked, speculate = name.split("/")
        if name not in engines:
            engines[name] = Engine(model, speculate=speculate)
            for _ in range(2):
                answer(engines[name], asked)
        print(answer(engines[name], asked), flush=True)


def main() -> None:
    """Start the processes, let them work in turn, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("steps", "guesses"))
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.work:
        work(chosen)
        return
    trees = [tree for tree in (chosen.before, HERE) if tree]
    settings = {"OMP_NUM_THREADS": str(chosen.threads)}
    words = [sys.executable, __file__, chosen.what, "--work", "--model", chosen.model, "--dtype", chosen.dtype]
    processes = [
        subprocess.Popen(
            [*words, "--threads", str(chosen.threads)], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=os.environ | settings | {"PYTHONPATH": str(tree / "src")},
        )
        for tree in trees
    ]  # fmt: skip
    names = (
        [*map(str, COUNTS)]
        if chosen.what == "steps"
        else [f"{one}/{way}" for one in ASKED for way in ("never", "auto")]
    )
    for name in names:
        found: list[list[float]] = [[] for _ in trees]
        for _ in range(chosen.repeats):
            for process, values in zip(processes, found, strict=True):
                assert process.stdin is not None and process.stdout is not None
                process.stdin.write(f"{name}\n")
                process.stdin.flush()
                values.append(float(process.stdout.readline()))
        print(f"{name:14} {'  '.join(f'{statistics.median(values):7.1f}' for values in found)}", flush=True)
    for process in processes:
        process.terminate()


if __name__ == "__main__":
    main()
