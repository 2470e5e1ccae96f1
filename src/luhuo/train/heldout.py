"""Held-out bits per byte: a loss that survives a change of tokenizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from luhuo.model.decoder import Decoder
from luhuo.train.objective import CausalLM


def bits_per_byte(
    batches: Callable[[], Iterable[dict[str, np.ndarray]]], token_bytes: Sequence[int], count: int
) -> Callable[[Decoder], dict[str, float]]:
    """A function that scores a model on the first `count` batches of a fresh `batches()`.

    `token_bytes[id]` is the number of UTF-8 bytes token `id` stands for. Bits are summed over the targets of
    `CausalLM` (a document's first token has no context and is not one) and divided by the same targets' bytes.
    """
    sizes = torch.tensor(list(token_bytes))

    def score(model: Decoder) -> dict[str, float]:
        objective, nats, size = CausalLM(), 0.0, 0
        for _, arrays in zip(range(count), batches(), strict=False):
            batch = {name: torch.from_numpy(array).to(model.device) for name, array in arrays.items()}
            loss, _, _ = objective.loss(model, batch)
            nats += loss.item()
            size += int(sizes[batch["ids"][:, 1:][objective.targets(batch)].cpu()].sum())
        return {"valid_bpb": nats / math.log(2) / max(1, size)}

    return score
