"""Objectives: what the loss of a batch is. Everything else about training is the trainer's."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.model.decoder import Decoder
from luhuo.train.cross_entropy import linear_cross_entropy

Batch = dict[str, Tensor]


class Objective(Protocol):
    """What a training stage supplies. A batch is a dict of tensors whose first dimension is rows."""

    def weight(self, batch: Batch) -> Tensor:
        """What the loss of this batch will be divided by (valid targets), known before the forward pass."""
        ...

    def loss(self, model: Decoder, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """(sum of losses, weight, sums of further metrics). The trainer divides all sums by the global weight."""
        ...


class CausalLM:
    """Next-token prediction.

    Batches: `ids` (batch, length + 1), optional `segments` like `ids` (0 padding, equal numbers one document), and
    optional `mask` like `ids` (1: this token is a target). A document's first token is never a target, padding
    neither.
    """

    def weight(self, batch: Batch) -> Tensor:
        """Number of targets."""
        return self.targets(batch).sum()

    def loss(self, model: Decoder, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Sum of the negative log-likelihood (nats) of the targets."""
        ids, segments, valid = batch["ids"], batch.get("segments"), self.targets(batch)
        hidden = model.hidden(ids[:, :-1], segments=None if segments is None else segments[:, :-1])
        if valid.all():
            hidden, targets = hidden.flatten(0, 1), ids[:, 1:].flatten()
        else:
            hidden, targets = hidden[valid], ids[:, 1:][valid]
        if model.plain_head:
            return linear_cross_entropy(hidden, model.head_weight, targets), valid.sum(), {}
        return F.cross_entropy(model.head(hidden).float(), targets, reduction="sum"), valid.sum(), {}

    @staticmethod
    def targets(batch: Batch) -> Tensor:
        """Which tokens of ids[:, 1:] are targets: (batch, length) bool."""
        valid = torch.ones_like(batch["ids"][:, 1:], dtype=torch.bool)
        if "segments" in batch:
            segments = batch["segments"]
            valid &= (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] != 0)
        if "mask" in batch:
            valid &= batch["mask"][:, 1:] != 0
        return valid
