"""Our GGUF files in few bits beside those that llama.cpp's own quantiser makes of the same weights.

    python bench/gguf_quants.py --model TRAINED --text TEXT --peer-python PATH [--importance] [--kinds q4_k_m,q6_k]
    python bench/gguf_quants.py --random --peer-python PATH

TEXT is a plain file, or a corpus (its test documents). Of each kind both write a file from our F32 file; with
`--importance` both are given the same table, measured on the first quarter of the text, which is then not scored.
Printed: bytes, tensors that were given another format, the error of the matrices' outputs on the text (squared,
weighed by the inputs' mean squares; mean over matrices), perplexity of both files read here in fp32, the difference
with a 95% interval (bootstrap over chunks of 512 tokens), the perplexity llama.cpp computes of both, how many greedy
tokens of the engine here and of llama.cpp agree on our file, and seconds. `--random`: root mean square errors of two
million random numbers in each k-quant, as a share of the numbers', and processor time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf_llama_cpp import LENGTH, Peer, greedy
from rounding import texts
from torch import Tensor

from luhuo.files.gguf import GGUF
from luhuo.kernels.gguf_dequantise import dequantise
from luhuo.kernels.gguf_quantise import quantise
from luhuo.kernels.gguf_quantise_k import KINDS_K
from luhuo.model.decoder import Decoder
from luhuo.model.gguf import export_gguf, find_layout, load_gguf
from luhuo.model.gguf_importance import measure_importance
from luhuo.model.gguf_kinds import MIXES
from luhuo.model.load import load_decoder

KINDS = ("q8_0_plain", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "q3_k_m", "q2_k")
PROMPTS, WRITTEN = 8, 24
"""Beginnings out of the text, and greedy tokens after each."""


@torch.no_grad()
def losses(model: Decoder, ids: list[int]) -> np.ndarray:
    """The mean loss of each chunk's second half."""
    found = []
    for at in range(0, len(ids) - LENGTH + 1, LENGTH):
        chunk = torch.tensor(ids[at : at + LENGTH])
        rows = model.head(model.hidden(chunk[None])[0, LENGTH // 2 : -1]).double()
        found.append(float(torch.nn.functional.cross_entropy(rows, chunk[LENGTH // 2 + 1 :])))
    return np.array(found)


def interval(differences: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95% of the mean, by resampling."""
    random = np.random.default_rng(seed)
    means = differences[random.integers(0, len(differences), (2000, len(differences)))].mean(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def tensors(path: Path) -> dict[str, tuple[str, Tensor]]:
    file = GGUF(path)
    return {n: (i.kind.name, dequantise(file.data(n), i.kind, i.shape)) for n, i in file.tensors.items()}


def output_error(exact: Mapping[str, Any], path: Path, table: Mapping[str, Tensor]) -> float:
    """Share of the matrices' outputs that is lost, in squares."""
    found = tensors(path)
    shares = []
    for name, mean in table.items():
        whole = exact[name][1]
        shares.append(float(((found[name][1] - whole).square() @ mean).sum() / (whole.square() @ mean).sum()))
    return float(np.mean(shares))


def row_of(
    kind: str, model: Decoder, peer: Peer, folder: Path, base: Path, ids: list[int], given: argparse.Namespace,
    table: dict[str, Tensor], exact: Mapping[str, Any], plain: np.ndarray,
) -> dict[str, Any]:  # fmt: skip
    ours, theirs, store = folder / f"{kind}.ours.gguf", folder / f"{kind}.theirs.gguf", folder / "importance.npz"
    start = time.process_time()
    export_gguf(model, ours, kind, importance=table if given.importance else None, note=lambda _: None)
    seconds = time.process_time() - start
    request: dict[str, Any] = {"ftype": MIXES[kind].file_type}
    if given.importance:
        np.savez(store, **{name: mean.numpy() for name, mean in table.items()})  # pyright: ignore[reportArgumentType]
        request["importance"] = store
    peer("quantise", path=base, out=theirs, **request)
    files = {"ours": ours, "theirs": theirs}
    kinds = {side: {name: one for name, (one, _) in tensors(path).items()} for side, path in files.items()}
    other = [n for n in kinds["ours"] if kinds["ours"][n] != kinds["theirs"].get(n)]
    loss = {side: losses(load_gguf(path, "fp32", "cpu"), ids) for side, path in files.items()}
    low, high = interval(loss["ours"] - loss["theirs"])
    prompts = [ids[at : at + 48] for at in range(0, 48 * 64 * PROMPTS, 48 * 64)][:PROMPTS]
    here = greedy(load_gguf(ours, "fp32", "cpu"), prompts, WRITTEN)
    there = peer("greedy", path=ours, prompts=prompts, count=WRITTEN)["answers"]
    return {
        "kind": kind,
        "importance": given.importance,
        "bytes": {side: path.stat().st_size for side, path in files.items()},
        "other formats": {name: [kinds["ours"][name], kinds["theirs"].get(name)] for name in other},
        "output error": {side: output_error(exact, path, table) for side, path in files.items()},
        "perplexity": {side: float(np.exp(one.mean())) for side, one in (loss | {"fp32": plain}).items()},
        "ours over theirs": [float(np.exp(x)) - 1 for x in ((loss["ours"] - loss["theirs"]).mean(), low, high)],
        "in llama.cpp": {
            side: peer("perplexity", path=path, ids=ids, length=LENGTH)["perplexity"] for side, path in files.items()
        },
        "greedy": sum(a == b for x, y in zip(here, there, strict=True) for a, b in zip(x, y, strict=True)),
        "of": PROMPTS * WRITTEN,
        "seconds": seconds,
    }  # fmt: skip


def random_numbers(peer: Peer, folder: Path) -> None:
    torch.manual_seed(0)
    numbers = {
        "normal": torch.randn(8192, 256),
        "Student's t, 4": torch.distributions.StudentT(4.0).sample((8192, 256)),
    }
    for title, x in numbers.items():
        np.save(folder / "x.npy", x.numpy())
        for kind in sorted(KINDS_K):
            start = time.process_time()
            ours = torch.cat(list(quantise(x, kind)))
            spent = (time.process_time() - start) / x.numel() * 1e9
            peer("blocks", path=folder / "x.npy", out=folder / "q.npy", kind=int(kind), bytes=kind.bytes)
            theirs = torch.from_numpy(np.load(folder / "q.npy"))
            lost = [(dequantise(data, kind, tuple(x.shape)) - x).square().mean().sqrt() for data in (ours, theirs)]
            share = [float(one / x.square().mean().sqrt()) for one in lost]
            print(f"{title}, {kind.name}: {share[0]:.4f} (theirs {share[1]:.4f}), {spent:.0f} ns a number")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--peer-python", required=True, help="Python of the environment with llama-cpp-python")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--kb", type=int, default=60, help="kilobytes of each source of a corpus")
    parser.add_argument("--importance", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="rows as JSON lines; those that are there are not made again")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.random:
        with tempfile.TemporaryDirectory() as name:
            random_numbers(Peer(given.peer_python, given.threads), Path(name))
        return
    model = load_decoder(given.model, dtype="fp32", device="cpu")
    text = "".join(texts(given.text, given.kb).values()) if given.text.is_dir() else given.text.read_text("utf-8")
    ids = model.tokenizer.encode(text)
    quarter = len(ids) // 4 // LENGTH * LENGTH
    seen, ids = ids[:quarter], ids[quarter : len(ids) // LENGTH * LENGTH]
    table = measure_importance(model, find_layout(model.config), torch.tensor(seen).view(-1, LENGTH))
    rows = (
        [json.loads(line) for line in given.out.read_text().splitlines()] if given.out and given.out.is_file() else []
    )
    done = {(row["kind"], row["importance"]) for row in rows}
    peer = Peer(given.peer_python, given.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = folder / "f32.gguf"
        export_gguf(model, base, "f32", note=lambda _: None)
        exact, plain = tensors(base), losses(model, ids)
        for kind in given.kinds.split(","):
            if (kind, given.importance) not in done:
                rows.append(row_of(kind, model, peer, folder, base, ids, given, table, exact, plain))
                if given.out:
                    given.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
            row = next(row for row in rows if (row["kind"], row["importance"]) == (kind, given.importance))
            show(row, len(ids))
    peer.close()


def show(row: Mapping[str, Any], tokens: int) -> None:
    size, error, ppl, there = row["bytes"], row["output error"], row["perplexity"], row["in llama.cpp"]
    middle, low, high = row["ours over theirs"]
    print(
        f"{row['kind']}{' with importance' if row['importance'] else ''}: {size['ours']:,} bytes (theirs "
        f"{size['theirs']:,}), output error {error['ours']:.3e} ({error['theirs']:.3e}), perplexity of {tokens:,} "
        f"tokens {ppl['ours']:.4f} ({ppl['theirs']:.4f}; fp32 {ppl['fp32']:.4f}), ours over theirs {middle:+.3%} "
        f"[{low:+.3%}, {high:+.3%}], in llama.cpp {there['ours']:.4f} ({there['theirs']:.4f}), greedy "
        f"{row['greedy']}/{row['of']}, {row['seconds']:.1f} s, other formats: {row['other formats'] or 'none'}",
        flush=True,
    )


if __name__ == "__main__":
    main()
