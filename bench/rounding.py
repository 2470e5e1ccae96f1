"""What rounding weights to 8 and 4 bits costs a model that was trained here, beside llama.cpp's own formats.

    luhuo pretrain shards=RUN/shards tokenizer=RUN/tokenizer size=3m tokens=8000000 --out TRAINED
    python bench/rounding.py --model TRAINED --corpus RUN/text --peer-python PATH [--kb 300]

Perplexity of held-out documents, by source, of the weights as they are (fp32, bf16), rounded here to the nearest step
(int8, int4), and in llama.cpp of our F32, Q8_0 and Q4_0 files, each against the fp32 of its own side. (The weights of
SmolLM2-135M that packages carry lie on a 4-bit grid already, so they show nothing.) Targets: int8 within 0.3%; int4
no worse than Q4_0 in llama.cpp on the same text.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from pathlib import Path

import torch
from gguf_llama_cpp import LENGTH, Peer, perplexity

from luhuo.files.readers import read_records
from luhuo.files.records import Record
from luhuo.model.decoder import Decoder
from luhuo.model.gguf import export_gguf
from luhuo.model.load import load

HERE = ("fp32", "bf16", "int8", "int4")
THERE = ("f32", "q8_0", "q8_0_plain", "q4_0")


def texts(corpus: Path, kilobytes: int) -> dict[str, str]:
    """Held-out text by source."""
    found: dict[str, str] = defaultdict(str)
    for record in read_records(corpus / "documents" / "test.jsonl.zst"):
        if isinstance(record, Record) and len(found[record.fields["source"]].encode()) < kilobytes * 1000:
            found[record.fields["source"]] += record.text + "\n\n"
    return dict(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--peer-python", required=True, help="Python of the environment with llama-cpp-python")
    parser.add_argument("--kb", type=int, default=300, help="kilobytes of each source")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    models = {kind: load(given.model, dtype=kind, device="cpu") for kind in HERE}
    peer = Peer(given.peer_python, given.threads)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = {kind: Path(folder) / f"{kind}.gguf" for kind in THERE}
        for kind, path in files.items():
            assert isinstance(models["fp32"], Decoder)
            export_gguf(models["fp32"], path, kind)
        for source, text in texts(given.corpus, given.kb).items():
            ids = models["fp32"].tokenizer.encode(text)
            ids = ids[: len(ids) // LENGTH * LENGTH]
            if not ids:
                continue
            here = {kind: perplexity(model, ids) for kind, model in models.items()}
            there = {
                kind: peer("perplexity", path=path, ids=ids, length=LENGTH)["perplexity"]
                for kind, path in files.items()
            }
            change = {kind: here[kind] / here["fp32"] - 1 for kind in HERE}
            change |= {f"llama.cpp {kind}": there[kind] / there["f32"] - 1 for kind in THERE[1:]}
            row = {"source": source, "tokens": len(ids), "fp32": here["fp32"], "llama.cpp f32": there["f32"]}
            rows.append(row | {"change": change})
            print(f"{source}: {len(ids):,} tokens, fp32 {here['fp32']:.4f}, llama.cpp F32 {there['f32']:.4f}")
            print(
                "  " + ", ".join(f"{kind} {value:+.3%}" for kind, value in change.items() if kind != "fp32"),
                flush=True,
            )
    peer.close()
    if given.out:
        given.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
