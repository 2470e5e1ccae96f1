"""Objectives: what the loss of a batch is. Everything else about training is the trainer's."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.model.decoder import Decoder
from luhuo.train.cross_entropy import linear_cross_entropy

Batch = dict[str, Tensor]

MTP_WEIGHT = 0.3
"""Of multi-token prediction against the next token (DeepSeek-V3 2024, section 4.2)."""


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
        """Sum of the negative log-likelihood (nats) of the targets.

        In training mode, a model with multi-token prediction adds the mean of its depths' losses times `MTP_WEIGHT`,
        and one with a balancing loss adds that; the likelihood alone is then the metric `next_token`.
        """
        ids, segments, valid = batch["ids"], batch.get("segments"), self.targets(batch)
        segments = None if segments is None else segments[:, :-1]
        hidden = model.hidden(ids[:, :-1], segments=segments)
        loss, weight = _likelihood(model, hidden, ids[:, 1:], valid), valid.sum()
        if not model.training:
            return loss, weight, {}
        extra: dict[str, Tensor] = {}
        if model.config.mtp_layers:
            extra["further_tokens"] = MTP_WEIGHT * self._further(model, hidden, batch)
        balance = model.auxiliary_loss(valid.sum(1))  # a row counts by its targets, so that no split changes the sum
        if balance is not None:
            extra["balance"] = balance
        metrics = {"next_token": loss.detach(), **{name: value.detach() for name, value in extra.items()}}
        return loss + sum(extra.values()), weight, metrics if extra else {}

    def _further(self, model: Decoder, hidden: Tensor, batch: Batch) -> Tensor:
        """Mean over the depths of multi-token prediction of the sum of the targets' losses."""
        ids, segments, valid = batch["ids"], batch.get("segments"), self.targets(batch)
        before = None if segments is None else segments[:, :-2]
        states = model.mtp_states(hidden[:, :-1], ids[:, 1:-1], segments=before)
        losses = []
        for depth, state in enumerate(states):
            reach = depth + 2
            counts = valid[:, reach - 1 :]
            if segments is not None:
                counts = counts & (segments[:, reach:] == segments[:, :-reach])
            losses.append(_likelihood(model, state, ids[:, reach:], counts))
        return torch.stack(losses).mean()

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


def _likelihood(model: Decoder, hidden: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Sum of the negative log-likelihood of the valid targets: hidden (B, T, C), targets and valid (B, T)."""
    if valid.all():
        hidden, targets = hidden.flatten(0, 1), targets.flatten()
    else:
        hidden, targets = hidden[valid], targets[valid]
    if model.plain_head:
        return linear_cross_entropy(hidden, model.head_weight, targets)
    return F.cross_entropy(model.head(hidden).float(), targets, reduction="sum")
