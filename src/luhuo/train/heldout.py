"""Held-out bits per byte: a loss that survives a change of tokenizer, in all, by language and by source."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.model.decoder import Decoder
from luhuo.train.objective import CausalLM

ROWS = 1024
"""Targets whose logits are made at once; bounds memory."""
LEAST_BYTES = 500
"""A language or source with less held-out text than this gets no figure: it would say nothing."""


def bits_per_byte(
    batches: Callable[[], Iterable[dict[str, np.ndarray]]],
    token_bytes: Sequence[int],
    count: int,
    groups: Sequence[dict[str, str]] = (),
) -> Callable[[Decoder], dict[str, float]]:
    """A function that scores a model on the first `count` batches of a fresh `batches()`.

    `token_bytes[id]` is the number of UTF-8 bytes token `id` stands for. Bits are summed over the targets of
    `CausalLM` (a document's first token has no context and is not one) and divided by the same targets' bytes:
    `valid_bpb`. Where the batches have `groups` (1 + a place in `groups`, which gives {"source", "lang"}), also
    `valid_bpb.LANG` and `valid_bpb.source.NAME`, where there is more than one of them.
    """
    sizes = torch.tensor(list(token_bytes), dtype=torch.float64)
    names = _names(groups)

    def score(model: Decoder) -> dict[str, float]:
        nats, size = (torch.zeros(len(groups) + 1, dtype=torch.float64) for _ in range(2))
        for _, arrays in zip(range(count), batches(), strict=False):
            batch = {name: torch.from_numpy(array).to(model.device) for name, array in arrays.items()}
            group = batch.pop("groups", torch.zeros_like(batch["ids"]))
            valid = CausalLM.targets(batch)
            losses = token_nats(model, batch["ids"], batch.get("segments"), valid)
            place = group[:, 1:][valid].long().cpu()
            nats.index_add_(0, place, losses.double().cpu())
            size.index_add_(0, place, sizes[batch["ids"][:, 1:][valid].cpu()])
        found = {"valid_bpb": _ratio(nats, size, list(range(len(groups) + 1)))}
        for name, places in names.items():
            if size[places].sum() >= LEAST_BYTES:
                found[f"valid_bpb.{name}"] = _ratio(nats, size, places)
        return found

    return score


@torch.no_grad()
def token_nats(model: Decoder, ids: Tensor, segments: Tensor | None, valid: Tensor) -> Tensor:
    """Negative log-likelihood of each valid target, in their order: ids (B, T + 1), valid (B, T) of ids[:, 1:]."""
    hidden = model.hidden(ids[:, :-1], segments=None if segments is None else segments[:, :-1])
    pairs = zip(hidden[valid].split(ROWS), ids[:, 1:][valid].split(ROWS), strict=True)
    losses = [F.cross_entropy(model.head(states).float(), targets, reduction="none") for states, targets in pairs]
    return torch.cat(losses) if losses else torch.zeros(0)


def _names(groups: Sequence[dict[str, str]]) -> dict[str, list[int]]:
    """Places in the sums by name: languages, and sources behind `source.`."""
    names: dict[str, list[int]] = {}
    for kind, prefix in (("lang", ""), ("source", "source.")):
        values = dict.fromkeys(group[kind] for group in groups)
        for value in values if len(values) > 1 else ():
            names[prefix + value] = [1 + i for i, group in enumerate(groups) if group[kind] == value]
    return names


def _ratio(nats: Tensor, size: Tensor, places: list[int]) -> float:
    return (nats[places].sum() / math.log(2) / size[places].sum().clamp(min=1)).item()
