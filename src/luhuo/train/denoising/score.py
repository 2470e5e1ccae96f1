"""Held-out scores of objectives that fill gaps: loss, perplexity and accuracy on gaps that are always the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.train.objective import Batch

ROWS = 1024
"""Targets whose logits are made at once; bounds memory."""


class Outcome(Protocol):
    """An objective that says from which states its targets are told."""

    def outcome(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """States (n, C) for `model.head`, and the right tokens (n,)."""
        ...


def gap_scores(
    objective: Outcome, batches: Callable[[], Iterable[dict[str, np.ndarray]]], name: str = ""
) -> Callable[[Any], dict[str, float]]:
    """A function that scores a model on all of a fresh `batches()`.

    `valid_loss` (nats a token), `valid_perplexity` (its exponential: of a masked model the perplexity at the masks)
    and `valid_accuracy` (share of the targets that are the likeliest token); with a `name` as in `valid_NAME_loss`.
    """
    prefix = f"valid_{name}_" if name else "valid_"

    @torch.no_grad()
    def score(model: Any) -> dict[str, float]:
        nats, right, count = 0.0, 0, 0
        for arrays in batches():
            batch = {key: torch.from_numpy(array).to(model.device) for key, array in arrays.items()}
            states, targets = objective.outcome(model, batch)
            for some, wanted in zip(states.split(ROWS), targets.split(ROWS), strict=True):
                logits = model.head(some).float()
                nats += F.cross_entropy(logits, wanted, reduction="sum").item()
                right += int((logits.argmax(-1) == wanted).sum())
            count += len(targets)
        loss = nats / max(1, count)
        figures = {"loss": loss, "perplexity": math.exp(min(loss, 50.0)), "accuracy": right / max(1, count)}
        return {prefix + key: value for key, value in figures.items()}

    return score
