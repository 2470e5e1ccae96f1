"""What a compressing stage takes in time and memory as models grow, and what that makes for 7B and 175B parameters.

    python bench/compression_scaling.py --out DIR --data TEXT [--methods gptq,awq] [--sizes 10,30,80] \\
        [--tokens 4096,16384] [--model DIR …]

Models of random weights (and those named with --model) are compressed, each in a process of its own, with one thread.
Time is the processor time of that process, so that other work on the machine counts for little; memory is its peak
resident set, which holds the calibration states, too, although they are a file that the system may write out.
Finished runs are kept in DIR/runs.jsonl and not repeated.

Fitted, by least squares with coefficients that are not negative:
    seconds = a + P (b + c T + d W)      P weights in the blocks' matrices, T calibration tokens,
                                         W columns of a matrix, mean over the weights
    bytes   = e + f N + g A              N what the walk holds: 4 (2 B + 3 M + S), A what a batch makes
B numbers of the largest block, M of its second moments, S of the states (T times hidden size); A is 4 bytes for
each of 4,096 tokens and each row of the matrix with the most rows.
c is the text's way through the blocks and the second moments (T columns² a matrix), d the Cholesky factor and the
updates of the columns behind (rows columns² a matrix); a run over text sees nothing that grows faster.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SHAPES = {
    # millions of parameters: (hidden, layers, heads, kv heads, inner); the vocabulary is small
    10: (320, 6, 5, 5, 896),
    30: (512, 9, 8, 4, 1408),
    80: (768, 12, 12, 4, 2048),
    300: (1024, 24, 16, 8, 2816),
}
LARGE = {
    "7B": {
        "hidden_size": 4096, "layers": 32, "heads": 32, "kv_heads": 32, "head_dim": 128, "intermediate_size": 11_008,
    },
    "175B": {
        "hidden_size": 12288, "layers": 96, "heads": 96, "kv_heads": 96, "head_dim": 128, "intermediate_size": 49152,
        "gated": False,
    },
}  # fmt: skip
"""Shapes of Llama-2-7B and of GPT-3."""
LENGTH = 256
LARGE_TOKENS = 128 * 2048
"""What the papers calibrate on."""

MAKE = """
import json, sys
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.model.load import load_decoder
from luhuo.model.save import save
import torch
shape, tokenizer, folder = json.loads(sys.argv[1])
whole = load_decoder(tokenizer, "fp32", "cpu")
model = initialise(Decoder(ModelConfig(vocab_size=whole.config.vocab_size, max_positions=1024, **shape)), 0)
model.tokenizer = whole.tokenizer
save(model.to(torch.bfloat16), folder)
"""
COUNT = """
import json, sys
from luhuo.model.families import read_config
from luhuo.model.decoder import Decoder
from luhuo.model.load import read_values
from pathlib import Path
import torch
root = Path(sys.argv[1])
with torch.device("meta"):
    model = Decoder(read_config(read_values(root), root / "config.json"))
found = []
for block in model.blocks:
    found.append([list(p.shape) for p in block.parameters() if p.ndim == 2])
print(json.dumps({"hidden": model.config.hidden_size, "blocks": found}))
"""


def ran(command: list[str]) -> tuple[float, float, int]:
    """Processor seconds, seconds, and peak bytes of a process. This one is small: a child begins as its copy."""
    start = time.monotonic()
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"exit status {status}: {' '.join(command)}")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - start, usage.ru_maxrss * 1024


def shape_of(blocks: list[list[list[int]]], hidden: int, tokens: int) -> dict[str, float]:
    """P, W, T, N, A and the states' part of N."""
    matrices = [matrix for block in blocks for matrix in block]
    weights = sum(rows * columns for rows, columns in matrices)
    block = max(sum(rows * columns for rows, columns in block) for block in blocks)
    moments = max(sum(columns * columns for _, columns in block) for block in blocks)
    states = tokens * hidden
    return {
        "P": weights,
        "W": sum(rows * columns * columns for rows, columns in matrices) / weights,
        "T": tokens,
        "N": 4 * (2 * block + 3 * moments + states),
        "A": 4 * min(tokens, 4096) * max(rows for rows, _ in matrices),
        "states": 4 * states,
    }


def large(name: str, tokens: int) -> dict[str, float]:
    """The same of a model that is not there."""
    shape: dict[str, Any] = LARGE[name]
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    own, shared = shape["heads"] * shape["head_dim"], shape["kv_heads"] * shape["head_dim"]
    first = inner * (2 if shape.get("gated", True) else 1)
    block = [[own + 2 * shared, hidden], [hidden, own], [first, hidden], [hidden, inner]]
    return shape_of([block] * shape["layers"], hidden, tokens)


def fitted(rows: list[list[float]], values: list[float]) -> list[float]:
    """Least squares of relative errors with coefficients ≥ 0: the best over all sets of columns that may be used."""
    import numpy as np

    scaled = np.array(rows) / np.array(values)[:, None]
    best, found = float("inf"), np.zeros(len(rows[0]))
    for chosen in itertools.product((False, True), repeat=len(rows[0])):
        if not any(chosen):
            continue
        columns = np.flatnonzero(chosen)
        solved = np.linalg.lstsq(scaled[:, columns], np.ones(len(values)), rcond=None)[0]
        error = float(((scaled[:, columns] @ solved - 1) ** 2).sum())
        if (solved >= 0).all() and error < best:
            best, found = error, np.zeros(len(rows[0]))
            found[columns] = solved
    return found.tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--tokenizer", required=True, help="a model whose tokenizer the random ones get")
    parser.add_argument("--methods", default="gptq", help="that read text")
    parser.add_argument("--sizes", default="10,30,80")
    parser.add_argument("--tokens", default="4096,16384")
    parser.add_argument("--model", action="append", default=[], help="a model directory, too")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    log = given.out / "runs.jsonl"
    runs = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    folders = {}
    for size in map(int, filter(None, given.sizes.split(","))):
        hidden, layers, heads, kv, inner = SHAPES[size]
        shape = {"hidden_size": hidden, "layers": layers, "heads": heads, "kv_heads": kv, "head_dim": hidden // heads}
        folders[f"{size}M"] = given.out / f"random-{size}"
        if not (folders[f"{size}M"] / "config.json").is_file():
            request = [shape | {"intermediate_size": inner}, given.tokenizer, str(folders[f"{size}M"])]
            subprocess.run([sys.executable, "-c", MAKE, json.dumps(request)], check=True)
    folders |= {Path(model).name: Path(model) for model in given.model}
    counted = {name: count(folder) for name, folder in folders.items()}
    for (name, folder), method, tokens in itertools.product(
        folders.items(), given.methods.split(","), map(int, given.tokens.split(","))
    ):
        if any((run["name"], run["method"], run["T"]) == (name, method, tokens) for run in runs):
            continue
        settings = [f"model={folder}", f"method={method}", "threads=1"]
        settings += [f"data={given.data}", f"length={LENGTH}", f"sequences={tokens // LENGTH}"]
        command = [sys.executable, "-m", "luhuo", "quantize", *settings, "--out", str(given.out / "made"), "--force"]
        processor, seconds, peak = ran(command)
        run = {"name": name, "method": method, "processor": processor, "seconds": seconds, "peak": peak}
        run["T"] = tokens
        runs.append(run)
        with log.open("a") as handle:
            handle.write(json.dumps(run) + "\n")
        print(f"{name} {method} T={tokens}: {processor:.1f} s, peak {peak / 1e6:.0f} MB", flush=True)
    known = [run | shape_of(*counted[run["name"]], run["T"]) for run in runs if run["name"] in counted]
    for method in dict.fromkeys(run["method"] for run in known):
        report(method, [run for run in known if run["method"] == method])


def count(folder: Path) -> tuple[list[list[list[int]]], int]:
    """Shapes of the matrices by block, and the hidden size."""
    told = subprocess.run([sys.executable, "-c", COUNT, str(folder)], check=True, capture_output=True, text=True)
    found = json.loads(told.stdout)
    return found["blocks"], found["hidden"]


def report(method: str, runs: list[dict[str, Any]]) -> None:
    """The table, the fit, how far off it is, and what it says of large models."""
    print(f"\n{method}")
    for run in runs:
        each = 1e9 * run["processor"] / run["P"]
        print(
            f"  {run['name']:24} T={run['T']:6} P={run['P'] / 1e6:7.1f}M  {run['processor']:7.1f} s"
            f"  {each:8.1f} ns a weight  peak {run['peak'] / 1e6:6.0f} MB"
        )

    if len({r["P"] for r in runs}) < 3:
        print("  fewer than three sizes: no fit")
        return

    def row(r: dict[str, Any]) -> list[float]:
        return [1.0, r["P"], r["P"] * r["T"], r["P"] * r["W"]]

    def held(r: dict[str, Any]) -> list[float]:
        return [1.0, r["N"], r["A"]]

    time_fit = fitted([row(r) for r in runs], [r["processor"] for r in runs])
    room_fit = fitted([held(r) for r in runs], [r["peak"] for r in runs])
    off = max(abs(sum(a * b for a, b in zip(time_fit, row(r), strict=True)) / r["processor"] - 1) for r in runs)
    far = max(abs(sum(a * b for a, b in zip(room_fit, held(r), strict=True)) / r["peak"] - 1) for r in runs)
    a, b, c, d = time_fit
    print(f"  seconds = {a:.1f} + P ({b:.2e} + {c:.2e} T + {d:.2e} W), off by at most {off:.0%} over {len(runs)} runs")
    e, f, g = room_fit
    print(f"  bytes = {e / 1e6:.0f}M + {f:.2f} N + {g:.2f} A, off by at most {far:.0%}")
    for name in LARGE:
        shape = large(name, LARGE_TOKENS)
        seconds = sum(x * y for x, y in zip(time_fit, row(shape), strict=True))
        room = sum(x * y for x, y in zip(room_fit, held(shape), strict=True))
        print(
            f"  {name}: P={shape['P'] / 1e9:.1f}G, T={shape['T']:,}: {seconds / 3600:.1f} h on one such core, "
            f"{room / 1e9:.1f} GB (of which {f * shape['states'] / 1e9:.1f} GB states, a file)"
        )


if __name__ == "__main__":
    main()
