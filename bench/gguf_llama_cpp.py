"""GGUF files of ours in llama.cpp, and the same model here: perplexity, greedy answers, tokens, and every family.

`llama-cpp-python` is compiled from source, so it lives in an environment of its own and is asked through a pipe
(`bench/llama_cpp_peer.py`). Run:

    python bench/gguf_llama_cpp.py --peer-python PATH [--model REF] [--text FILE …] [--chunks 8] [--threads 2]
    python bench/gguf_llama_cpp.py --peer-python PATH --families
    python bench/gguf_llama_cpp.py --peer-python PATH --tokens --text FILE …

Targets: perplexity of our F32 file there within 0.1% of ours here on the same tokens; Q8_0 within 0.5%; the greedy
answers of our F16 file equal; logits of every tiny family within 1e-4 (where llama.cpp looks GELU up in a table of
half-precision numbers, within 1e-2).
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from luhuo.core.errors import LuhuoError
from luhuo.files.gguf import GGUF
from luhuo.files.gguf_write import TensorPlan, write_gguf
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.gguf import export_gguf, load_gguf
from luhuo.model.initialise import initialise
from luhuo.model.load import load
from luhuo.tokenizer.gguf_export import WHOLE, gguf_metadata
from luhuo.tokenizer.patterns import RECIPES
from luhuo.tokenizer.tokenizer import Tokenizer

LENGTH = 512
"""Tokens of a chunk; the second half is scored."""

LINES = 300
"""Lines of a text whose tokens are compared."""

FORMATS = ("f32", "f16", "q8_0", "q8_0_plain", "q4_0", "q4_1")
"""What our files are written in, by the names of `luhuo export --dtype`."""

QUESTIONS = (
    "What is the capital of France? Answer in one sentence.",
    "Write a short poem about the sea.",
    "List three fruits.",
    "Explain in two sentences why the sky is blue.",
    "What is 12 plus 30?",
    "Give me a name for a cat.",
    "Translate to French: Good morning.",
    "Who wrote Romeo and Juliet?",
    "How do I boil an egg?",
    "Tell me a fact about the moon.",
)


class Peer:
    """llama.cpp in its own process."""

    def __init__(self, python: str, threads: int) -> None:
        script = Path(__file__).with_name("llama_cpp_peer.py")
        self.threads = threads
        self._process = subprocess.Popen(
            [python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __call__(self, do: str, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"do": do, "threads": self.threads, **request}
        self._process.stdin.write(json.dumps(request, default=str) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer died: {request}")
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@torch.no_grad()
def perplexity(model: Decoder, ids: list[int]) -> float:
    """The peer's rule, here."""
    total = count = 0.0
    for at in range(0, len(ids) - LENGTH + 1, LENGTH):
        chunk = torch.tensor(ids[at : at + LENGTH])
        rows = model.head(model.hidden(chunk[None])[0, LENGTH // 2 : -1]).double()
        total += float(torch.nn.functional.cross_entropy(rows, chunk[LENGTH // 2 + 1 :], reduction="sum"))
        count += len(rows)
    return math.exp(total / count)


@torch.no_grad()
def greedy(model: Decoder, prompts: Sequence[list[int]], count: int) -> list[list[int]]:
    """The likeliest tokens, each from the whole text before it."""
    answers = []
    for prompt in prompts:
        ids = list(prompt)
        for _ in range(count):
            ids.append(int(model.head(model.hidden(torch.tensor([ids]))[0, -1]).argmax()))
        answers.append(ids[len(prompt) :])
    return answers


def compare_model(peer: Peer, reference: str, texts: list[Path], chunks: int, folder: Path) -> None:
    model = load(reference, dtype="fp32", device="cpu")
    assert isinstance(model, Decoder)
    tokenizer = model.tokenizer
    assert tokenizer is not None
    files: dict[str, Path] = {kind: folder / f"{kind}.gguf" for kind in FORMATS}
    for kind, path in files.items():
        export_gguf(model, path, kind)
    if Path(reference).suffix == ".gguf":
        files["as shipped"] = Path(reference)
    for text in texts:
        ids = tokenizer.encode(text.read_text(encoding="utf-8")[: chunks * LENGTH * 8])[: chunks * LENGTH]
        lines = text.read_text(encoding="utf-8").splitlines()[:LINES]
        theirs = peer("tokenize", path=files["f32"], lines=lines)["ids"]
        equal = sum(tokenizer.encode(line) == found for line, found in zip(lines, theirs, strict=True))
        base = perplexity(model, ids)
        print(f"{text.name}: {len(ids) // LENGTH} chunks of {LENGTH}, {equal} of {len(lines)} lines give equal ids")
        print(f"  here, fp32           {base:.4f}")
        for kind, path in files.items():
            found = peer("perplexity", path=path, ids=ids, length=LENGTH)
            value = found["perplexity"]
            print(f"  llama.cpp, {kind:<12}{value:.4f} ({100 * (value / base - 1):+.3f}%), {found['scored']} scored")
        sys.stdout.flush()
    prompts = [tokenizer.encode(_chat(question), special=True) for question in QUESTIONS]
    half = load_gguf(files["f16"], "fp32", "cpu")
    here, there = greedy(half, prompts, 32), peer("greedy", path=files["f16"], prompts=prompts, count=32)["answers"]
    same = [
        next((i for i, (a, b) in enumerate(zip(x, y, strict=True)) if a != b), 32)
        for x, y in zip(here, there, strict=True)
    ]
    print(f"greedy, f16: {same.count(32)} of {len(same)} answers of 32 tokens equal; equal tokens of each {same}")


def _chat(question: str) -> str:
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def compare_families(peer: Peer, folder: Path) -> None:
    """Logits of tiny random models, of every variant that is written."""
    from tests.gguf_cases import GGUF_CASES
    from tests.test_model_gguf import model_of

    ids = [(7 * i * i + 3 * i + 5) % 90 + 6 for i in range(40)]
    worst = 0.0
    for name in GGUF_CASES:
        model, path, out = model_of(name), folder / f"{name}.gguf", folder / "logits.npy"
        export_gguf(model, path, "f32", note=lambda _: None)
        with torch.no_grad():
            here = model(torch.tensor([ids]))[0]
        answer = peer("logits", path=path, ids=ids, out=out)
        if "error" in answer:
            print(f"{name:<20}{answer['error']}")
            continue
        difference = float((here - torch.from_numpy(np.load(out))).abs().max())
        worst = max(worst, difference / (1e-2 if model.config.activation.startswith("gelu") else 1e-4))
        print(f"{name:<20}{difference:.1e} of {float(here.abs().max()):.1f}, {model.config.activation}")
    print(f"largest difference is {worst:.2f} of what is allowed")


def compare_tokens(peer: Peer, texts: list[Path], tokenizer: Tokenizer, folder: Path) -> None:
    """Lines to which llama.cpp gives the ids of a tokenizer, under each name of a way of cutting that it knows."""
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, layers=1, heads=2, kv_heads=1, head_dim=16,
        intermediate_size=32,
    )  # fmt: skip
    model = Decoder(config)
    initialise(model, 0)
    model.tokenizer = tokenizer
    exported = gguf_metadata(tokenizer, tokenizer.vocab_size)
    print(f"chosen on the probe: {exported.pre}, {exported.agreement:.0%} of its lines")
    lines = {
        text.name: [x for x in text.read_text(encoding="utf-8").splitlines() if x.strip()][:LINES] for text in texts
    }
    rows = []
    own, path = folder / "own.gguf", folder / "renamed.gguf"
    export_gguf(model, own, "f32", note=lambda _: None)
    for name in RECIPES:
        rename(own, path, name)
        shares = {}
        for text, several in lines.items():
            answer = peer("tokenize", path=path, lines=several)
            if "error" in answer:
                break
            shares[text] = sum(tokenizer.encode(x) == y for x, y in zip(several, answer["ids"], strict=True)) / len(
                several
            )
        rows.append((sum(shares.values()), name, shares))
    for _, name, shares in sorted(rows, key=lambda row: -row[0])[:8]:
        print(f"  {name:<16}" + ", ".join(f"{text} {share:.1%}" for text, share in shares.items()))


def rename(source: Path, target: Path, pre: str) -> None:
    """The same file with another name of the way of cutting text."""
    file = GGUF(source)
    plans = [
        TensorPlan(name, info.shape, info.kind, lambda name=name: [file.data(name)])
        for name, info in file.tensors.items()
    ]
    metadata = {key: value for key, value in file.metadata.items() if key != WHOLE}
    write_gguf(target, {**metadata, "tokenizer.ggml.pre": pre}, plans)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True, help="Python of the environment with llama-cpp-python")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--text", nargs="*", type=Path, default=[])
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--families", action="store_true")
    parser.add_argument("--tokens", action="store_true", help="compare tokens of a tokenizer trained on the texts")
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer's directory, instead of training one")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    peer = Peer(given.peer_python, given.threads)
    versions = {**peer("version"), "torch": torch.__version__, "python": platform.python_version()}
    print(time.strftime("%Y-%m-%d"), platform.machine(), versions)
    with tempfile.TemporaryDirectory() as folder:
        try:
            if given.families:
                compare_families(peer, Path(folder))
            elif given.tokens:
                compare_tokens(peer, given.text, _tokenizer(given), Path(folder))
            else:
                from luhuo.files.references import resolve

                compare_model(peer, str(resolve(given.model).path), given.text, given.chunks, Path(folder))
        except LuhuoError as error:
            sys.exit(str(error))
        finally:
            peer.close()


def _tokenizer(given: argparse.Namespace) -> Tokenizer:
    if given.tokenizer:
        return Tokenizer.load(given.tokenizer)
    from luhuo.tokenizer.training import train

    return train((text.read_text(encoding="utf-8") for text in given.text), vocab_size=8192)


if __name__ == "__main__":
    main()
