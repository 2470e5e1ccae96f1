"""Sixteen chat clients at a time over HTTP: tokens a second, time to the first token, and the second turn.

Each client holds a conversation of two turns, over and over: a first message of mixed length, an answer of mixed
length, and a short second message whose history the server knows already. Reported: tokens generated a second over
all clients, time to the first token at p50 and p95, and the second turn's time to its first token against that of
the first turn, both measured with one client alone. The server is a process of its own, with random weights of the
given shape or with the model of `--model`. The clients share its cores, so they are plain sockets that read JSON
(serve_client.py): it is the server that is measured.
Run: OMP_NUM_THREADS=2 python bench/serve_load.py [--model REF] [--seconds S]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from serve_client import Client, Refused

WORDS = (
    "the",
    "small",
    "town",
    "by",
    "a",
    "river",
    "has",
    "school,",
    "market",
    "and",
    "你好",
    "一座",
    "桥",
    "of",
    "stone",
)


@dataclass
class Seen:
    """What the clients saw."""

    tokens: int = 0
    first: list[float] = field(default_factory=list)
    second: list[float] = field(default_factory=list)
    errors: int = 0
    computed: dict[int, list[int]] = field(default_factory=lambda: {1: [], 2: []})
    """By turn, tokens of the prompt that were not known from before."""


def small_model(folder: Path) -> str:
    """A model of 25 million random parameters with the tokenizer and template of the tests."""
    from luhuo.model.config import ModelConfig
    from luhuo.model.decoder import Decoder
    from luhuo.model.initialise import initialise
    from luhuo.model.save import save

    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests.small_chat import small_tokenizer

    shape = {"hidden_size": 512, "layers": 8, "heads": 8, "kv_heads": 4, "head_dim": 64, "intermediate_size": 1408}
    model = initialise(Decoder(ModelConfig(vocab_size=small_tokenizer().vocab_size, max_positions=4096, **shape)), 0)
    model.tokenizer = small_tokenizer()
    save(model, folder / "random")
    return str(folder / "random")


@asynccontextmanager
async def served(model: str, *more: str, spins: int | None = None) -> AsyncIterator[str]:
    """The server's address; `spins`: how often its threads look before they sleep (serve/waiting.py)."""
    words = [sys.executable, "-m", "luhuo", "serve", f"bench={model}", "--port", "0", "--log", "/dev/null", *more]
    environment = os.environ | ({} if spins is None else {"GOMP_SPINCOUNT": str(spins)})
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "http://" in line:
                yield line[line.index("http://") :].strip() + "/v1"
                return
        raise SystemExit("the server did not start")
    finally:
        process.terminate()
        process.wait()


async def turn(client: Client, messages: list, most: int, seen: Seen) -> str:
    """One streamed answer; its time to the first token goes to those of its turn."""
    number = 1 if len(messages) == 1 else 2
    times = seen.first if number == 1 else seen.second
    begin, first, text = time.perf_counter(), None, []
    stream = client.chat(
        model="bench", messages=messages, max_tokens=most, temperature=0.8, ignore_eos=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    async for chunk in stream:
        if chunk["choices"]:
            if first is None:
                first = time.perf_counter() - begin
                times.append(first)
            text.append(chunk["choices"][0]["delta"].get("content") or "")
        if usage := chunk["usage"]:
            seen.tokens += usage["completion_tokens"]
            seen.computed[number].append(usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"])
    return "".join(text)


async def converse(client: Client, chance: random.Random, seen: Seen, words: list[int]) -> None:
    """Two turns, the first message with so many words."""
    question = " ".join(chance.choices(WORDS, k=chance.randrange(*words)))
    messages = [{"role": "user", "content": question}]
    answer = await turn(client, messages, chance.randrange(10, 120), seen)
    messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": "and then?"}]
    await turn(client, messages, chance.randrange(10, 60), seen)


async def load(url: str, clients: int, seconds: float, words: list[int], seed: int) -> tuple[Seen, float]:
    """So many clients for so long; what they saw and the time it took. With equal seeds they say the same."""
    seen, begin = Seen(), time.perf_counter()

    async def one(number: int) -> None:
        chance, client = random.Random(f"{seed} {number}"), Client(url)
        while time.perf_counter() - begin < seconds:
            try:
                await converse(client, chance, seen, words)
            except Refused:
                seen.errors += 1
        client.close()

    await asyncio.gather(*(one(number) for number in range(clients)))
    return seen, time.perf_counter() - begin


def shares(times: list[float]) -> dict[str, float]:
    """Median and 95th percentile in milliseconds."""
    ordered = sorted(times)
    return {
        "p50_ms": round(1e3 * statistics.median(ordered), 1),
        "p95_ms": round(1e3 * ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))], 1),
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--words", type=int, nargs=2, default=[10, 150], help="least and most of the first message")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        async with served(given.model or small_model(Path(folder))) as url:
            await load(url, 1, 2, given.words, 0)  # what is compiled or allocated at the first request
            alone, _ = await load(url, 1, given.seconds / 3, given.words, 1)
            seen, took = await load(url, given.clients, given.seconds, given.words, 2)
    first, second = statistics.median(alone.first), statistics.median(alone.second)
    report = {
        "clients": given.clients,
        "tokens_per_second": round(seen.tokens / took, 1),
        "answers": len(seen.first) + len(seen.second),
        "errors": seen.errors + alone.errors,
        "first_token": shares(seen.first),
        "first_token_second_turn": shares(seen.second),
        "alone_first_turn_ms": round(1e3 * first, 1),
        "alone_second_turn_ms": round(1e3 * second, 1),
        "second_to_first": round(second / first, 3),
        "alone_computed_tokens": [statistics.mean(alone.computed[number]) for number in (1, 2)],
        "machine": platform.platform(),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
