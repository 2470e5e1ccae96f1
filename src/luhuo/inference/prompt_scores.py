"""Log-probabilities of the tokens of a prompt: what `prompt_logprobs` and OpenAI's `echo` with `logprobs` ask for."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from luhuo.model.cache import KVCache
from luhuo.model.decoder import Decoder

CHUNK = 256
"""Tokens of one forward pass: logits of a long prompt over a large vocabulary would not fit into memory."""


@torch.inference_mode()
def prompt_logprobs(model: Decoder, prompt: Sequence[int], count: int) -> list[tuple[float, dict[int, float]] | None]:
    """For each token its natural log-probability behind those before it, and the `count` best there; None first."""
    ids = torch.tensor([list(prompt)], device=model.device)
    cache = KVCache(model.config, 1, len(prompt), model.dtype, model.device)
    found: list[tuple[float, dict[int, float]] | None] = [None]
    for start in range(0, len(prompt) - 1, CHUNK):
        end = min(start + CHUNK, len(prompt) - 1)
        scores = model(ids[:, start:end], cache=cache)[0].float().log_softmax(-1)
        taken = scores.gather(-1, ids[0, start + 1 : end + 1, None])[:, 0].tolist()
        best = scores.topk(min(count, scores.shape[-1]))
        for value, tokens, values in zip(taken, best.indices.tolist(), best.values.tolist(), strict=True):
            found.append((value, dict(zip(tokens, values, strict=True))))
    return found
