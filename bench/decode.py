"""Tokens a second of one stream, on weights in bf16, 8 and 4 bits: Luhuo against transformers and llama.cpp.

Decoding: a prompt of 8 tokens, then `--new` greedy ones. Prefill: a prompt of 512 tokens and one new one. All run in
turn, `--repeats` times; medians are printed, with the bytes of weights a token reads as a share of the bandwidth that
a sum over a large array reaches in the same run. transformers runs in bf16, with `--compile` also with a static cache
and torch.compile, its best setting (40 s to compile). llama.cpp, asked through `bench/llama_cpp_peer.py` with the
Python of an environment that has llama-cpp-python, gets the same weights as BF16, Q8_0 and Q4_0 files.

With `--text` the perplexity of each way to keep the weights is printed: chunks of 512 tokens, the second half counts.
"rounded" is a model rounded to the nearest here; a GGUF file's own 4-bit numbers are kept when it is loaded.

Directories of `--quantised` (what `luhuo quantize` made of the same model by any method) are run as they are, beside
the others.

    python bench/decode.py [--model REF] [--peer-python PATH] [--compile] [--text FILE] [--threads 2]
        [--quantised DIR …]
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from luhuo.model.decoder import Decoder
from luhuo.model.gguf import export_gguf
from luhuo.model.load import load_decoder
from luhuo.model.quantised import QuantisedEmbedding, quantise_model
from luhuo.model.save import save

PROMPT, PREFILL, CHUNK = 8, 512, 512
PEER_FILES = {"BF16": "bf16", "Q8_0": "q8_0_plain", "Q4_0": "q4_0"}
Run = Callable[[], tuple[float, float]]
"""Decoded and prefilled tokens a second."""


def bandwidth() -> float:
    """Bytes a second that a sum over 512 MB reads, the best of eight."""
    numbers, best = torch.ones(1 << 27), 0.0
    for _ in range(8):
        start = time.perf_counter()
        numbers.sum()
        best = max(best, numbers.nbytes / (time.perf_counter() - start))
    return best


def weight_bytes(model: Decoder) -> int:
    """Bytes of weights that a decoded token reads: all, but of an embedding that is no head only a row."""
    total = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    if model.unembedding is None:
        return total
    table = model.embedding
    return total - (table.packed.nbytes if isinstance(table, QuantisedEmbedding) else table.nbytes)


def ours(model: Decoder, new: int) -> Run:
    """Through the engine, with nothing kept from the run before and no tokens guessed: each token is one step."""
    settings = [Sampling(max_tokens=count, temperature=0.0, ignore_eos=True) for count in (1, new + 1)]
    generator = torch.Generator().manual_seed(0)

    def timed(length: int, sampling: Sampling) -> float:
        ids = torch.randint(model.config.vocab_size, (length,), generator=generator).tolist()
        engine = Engine(model, prefix_cache=False, speculate="never")
        start = time.perf_counter()
        engine.generate([ids], sampling)
        return time.perf_counter() - start

    def run() -> tuple[float, float]:
        first, whole = timed(PROMPT, settings[0]), timed(PROMPT, settings[1])
        return new / (whole - first), PREFILL / timed(PREFILL, settings[0])

    return run


def theirs(folder: str, new: int, *, compiled: bool) -> Run:
    """transformers' own generate, in bf16."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    extra = {"cache_implementation": "static"} if compiled else {}
    if compiled:
        model.forward = torch.compile(model.forward)

    def timed(length: int, count: int) -> float:
        ids = torch.randint(model.config.vocab_size, (1, length))
        start = time.perf_counter()
        model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count, do_sample=False,
            pad_token_id=0, **extra,
        )  # fmt: skip
        return time.perf_counter() - start

    def run() -> tuple[float, float]:
        first, whole = timed(PROMPT, 1), timed(PROMPT, new + 1)
        return new / (whole - first), PREFILL / timed(PREFILL, 1)

    return run


def llama_cpp(python: str, path: str, new: int, threads: int) -> Run:
    """llama.cpp on a file."""
    script = Path(__file__).with_name("llama_cpp_peer.py")
    peer = subprocess.Popen(
        [python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )

    def run() -> tuple[float, float]:
        assert peer.stdin is not None and peer.stdout is not None
        request = {"do": "speed", "path": path, "threads": threads, "new": new, "prompt": PROMPT, "prefill": PREFILL}
        print(json.dumps(request), file=peer.stdin, flush=True)
        answer = json.loads(peer.stdout.readline())
        return answer["decode"], answer["prefill"]

    return run


def perplexity(model: Decoder, ids: list[int]) -> float:
    total, count = 0.0, 0
    for at in range(0, len(ids) - CHUNK + 1, CHUNK):
        chunk = torch.tensor([ids[at : at + CHUNK]])
        with torch.inference_mode():
            scores = model.head(model.hidden(chunk)[:, CHUNK // 2 : -1]).float().log_softmax(-1)
        total -= float(scores.gather(-1, chunk[:, CHUNK // 2 + 1 :, None]).double().sum())
        count += scores.shape[1]
    return math.exp(total / count)


def quality(reference: str, text: str, tokens: int) -> dict[str, float]:
    """Perplexity of each way to keep the weights."""
    found = {}
    for name in ("fp32", "bf16", "int8", "int4", "int8 rounded", "int4 rounded"):
        kind, _, anew = name.partition(" ")
        model = load_decoder(reference, "fp32" if anew else kind, "cpu")
        if anew:
            quantise_model(model, kind)
        assert model.tokenizer is not None
        found[name] = round(perplexity(model, model.tokenizer.encode(text)[:tokens]), 4)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--peer-python", help="a Python with llama-cpp-python")
    parser.add_argument("--compile", action="store_true", help="transformers compiled, too")
    parser.add_argument("--no-transformers", action="store_true")
    parser.add_argument("--quantised", nargs="+", type=Path, default=[])
    parser.add_argument("--text", type=Path)
    parser.add_argument("--text-tokens", type=int, default=4096)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    limit = bandwidth()
    runs: dict[str, Run] = {}
    read: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("bf16", "int8", "int4"):
            model = load_decoder(wanted.model, kind, "cpu")
            runs[f"luhuo {kind}"], read[f"luhuo {kind}"] = ours(model, wanted.new), weight_bytes(model)
        for place in wanted.quantised:
            model = load_decoder(place, "auto", "cpu")
            runs[f"luhuo {place.name}"], read[f"luhuo {place.name}"] = ours(model, wanted.new), weight_bytes(model)
        if not wanted.no_transformers or wanted.peer_python:
            whole = load_decoder(wanted.model, "bf16", "cpu")
            save(whole, folder)
        if not wanted.no_transformers:
            for name in ("transformers bf16", "transformers bf16 compiled")[: 1 + wanted.compile]:
                runs[name] = theirs(folder, wanted.new, compiled=name.endswith("compiled"))
                read[name] = read["luhuo bf16"]
        for name, kind in PEER_FILES.items() if wanted.peer_python else ():
            path = f"{folder}/{kind}.gguf"
            export_gguf(whole, path, kind, note=lambda _: None)
            runs[f"llama.cpp {name}"] = llama_cpp(wanted.peer_python, path, wanted.new, wanted.threads)
            read[f"llama.cpp {name}"] = Path(path).stat().st_size
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for turn in range(wanted.repeats + 1):
            for name, run in runs.items():
                found = run()
                if turn:  # the first warms up
                    rates[name].append(found)
    table: dict[str, Any] = {}
    for name, values in rates.items():
        decode, prefill = (statistics.median(column) for column in zip(*values, strict=True))
        share = read[name] * decode / limit
        table[name] = {
            "decode": round(decode, 1), "prefill": round(prefill), "MB a token": round(read[name] / 1e6, 1),
            "GB/s": round(read[name] * decode / 1e9, 1), "of bandwidth": round(share, 2),
        }  # fmt: skip
    result: dict[str, Any] = {"tokens_per_s": table, "bandwidth_GB/s": round(limit / 1e9, 1)}
    if wanted.text:
        result["perplexity"] = quality(wanted.model, wanted.text.read_text(encoding="utf-8"), wanted.text_tokens)
    result |= {"threads": wanted.threads, "torch": torch.__version__, "machine": platform.machine()}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
