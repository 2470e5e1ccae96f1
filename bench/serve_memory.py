"""Does the server's memory stay flat? Clients for half an hour, its resident memory every minute.

A server process of a tiny random model on this machine, four clients: streams and whole answers of one to four
choices, answers in JSON, clients that leave in mid-stream, requests that are refused. Prompts never repeat, so that
whatever is kept of them would grow. Printed: resident memory each minute, requests by status, and the growth from
minute 5 on, when caches have their size. `--pause` is how long a client waits between requests.
Run: OMP_NUM_THREADS=1 nice python bench/serve_memory.py [--minutes 30] [--clients 4] [--pause 0.05]
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2

WARM_MINUTES = 5


def small_model(folder: Path) -> str:
    """The tiny model of the tests."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests.small_chat import small_model as model

    from luhuo.model.save import save

    save(model(), folder / "small")
    return str(folder / "small")


def started(model: str) -> tuple[subprocess.Popen[str], str]:
    """The server's process and its address."""
    words = [sys.executable, "-m", "luhuo", "serve", f"small={model}", "--port", "0", "--log", os.devnull]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=os.environ | {"LUHUO_LANG": "en"})
    assert process.stderr is not None
    for line in process.stderr:
        if "http://" in line:
            return process, line[line.index("http://") :].strip()
    raise SystemExit("the server did not start")


def resident(process: subprocess.Popen[str]) -> float:
    """Resident memory in MB."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


async def client(url: str, number: int, end: float, pause: float, statuses: collections.Counter[str]) -> None:
    """One client until `end`."""
    chance = random.Random(number)
    async with httpx2.AsyncClient(base_url=url, timeout=60) as http:
        while time.monotonic() < end:
            text = "".join(chance.choices("abcdefgh 你好世界", k=chance.randrange(1, 120)))
            body = {"model": "small", "messages": [{"role": "user", "content": text}], "max_tokens": 24}
            body |= {"n": chance.choice((1, 1, 1, 4)), "seed": chance.randrange(1 << 40)}
            kind = chance.random()
            if kind < 0.1:
                body |= {"response_format": {"type": "json_object"}}
            elif kind < 0.15:
                body |= {"temperature": 9}
            elif kind < 0.2:
                body["messages"] = [{"role": "user", "content": "x" * 900}]
            if chance.random() < 0.5:
                async with http.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as stream:
                    statuses[str(stream.status_code)] += 1
                    leaves = chance.random() < 0.4
                    async for _ in stream.aiter_bytes():
                        if leaves:
                            statuses["left in mid-stream"] += 1
                            break
            else:
                statuses[str((await http.post("/v1/chat/completions", json=body)).status_code)] += 1
            await asyncio.sleep(pause)


async def load(process: subprocess.Popen[str], url: str, given: argparse.Namespace) -> tuple[list[float], dict]:
    """All clients for the whole time; memory at each minute, and what they got."""
    statuses: collections.Counter[str] = collections.Counter()
    begin = time.monotonic()
    end = begin + 60 * given.minutes
    clients = [asyncio.create_task(client(url, n, end, given.pause, statuses)) for n in range(given.clients)]
    sizes = [resident(process)]
    for minute in range(1, given.minutes + 1):
        await asyncio.sleep(begin + 60 * minute - time.monotonic())
        sizes.append(resident(process))
        print(f"minute {minute}: {sizes[-1]:.1f} MB, {sum(statuses.values())} requests", flush=True)
    await asyncio.gather(*clients)
    return sizes, dict(statuses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--pause", type=float, default=0.05)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        process, url = started(small_model(Path(folder)))
        try:
            sizes, statuses = asyncio.run(load(process, url, given))
            with httpx2.Client(base_url=url) as http:
                lines = http.get("/metrics").text.splitlines()
            still_open = next(float(line.split()[-1]) for line in lines if line.startswith("luhuo_answers_open"))
        finally:
            process.terminate()
            code = process.wait(60)
    warm = sizes[min(WARM_MINUTES, len(sizes) - 1) :]
    report = {
        "resident_mb": {minute: round(size, 1) for minute, size in enumerate(sizes) if minute % 5 == 0},
        "growth_mb_after_warming": round(warm[-1] - warm[0], 1),
        "largest_mb": round(max(sizes), 1),
        "requests": statuses,
        "answers_still_open": still_open,
        "exit_code": code,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
