"""What a cache in few bits costs: perplexity of a text whose keys and values were kept in each format.

Chunks of 512 tokens, the second half counts; queries see keys and values as the cache gives them, from the first token
on. Printed: bytes a token, perplexity, and its change against the model's own format with a 95% interval over chunks.

    python bench/cache.py --text FILE [--model REF] [--chunks 14] [--formats bf16 int8 int4]
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch

from luhuo.inference.budget import cache_format
from luhuo.model.cache import KVCache, bytes_per_token
from luhuo.model.decoder import Decoder
from luhuo.model.load import load_decoder

CHUNK = 512


@torch.inference_mode()
def losses(model: Decoder, ids: list[int], stored: torch.dtype) -> torch.Tensor:
    """Mean loss of the second half of each chunk."""
    found = []
    for start in range(0, len(ids) - CHUNK + 1, CHUNK):
        chunk = torch.tensor([ids[start : start + CHUNK]])
        cache = KVCache(model.config, 1, CHUNK, model.dtype, stored=stored)
        scores = model.head(model.hidden(chunk, cache=cache)[:, CHUNK // 2 : -1]).float().log_softmax(-1)
        found.append(-scores.gather(-1, chunk[:, CHUNK // 2 + 1 :, None]).double().mean())
    return torch.stack(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--chunks", type=int, default=14)
    parser.add_argument("--formats", nargs="+", default=["bf16", "int8", "int4"])
    wanted = parser.parse_args()
    model = load_decoder(wanted.model, "bf16", "cpu")
    assert model.tokenizer is not None
    ids = model.tokenizer.encode(wanted.text.read_text(encoding="utf-8"))[: wanted.chunks * CHUNK]
    own = None
    for name in wanted.formats:
        stored = cache_format(name, model.dtype)
        found = losses(model, ids, stored)
        own = found if own is None else own
        change = found - own
        half = 1.96 * float(change.std()) / math.sqrt(len(change))
        told = [
            math.expm1(x) * 100
            for x in (float(change.mean()), float(change.mean()) - half, float(change.mean()) + half)
        ]
        print(
            f"{name:<6}{bytes_per_token(model.config, stored):>8} bytes a token   "
            f"perplexity {math.exp(float(found.mean())):.4f}   {told[0]:+.2f}% [{told[1]:+.2f}, {told[2]:+.2f}]",
            flush=True,
        )


if __name__ == "__main__":
    main()
