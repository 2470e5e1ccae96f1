"""Objectives: what the loss of a batch is. Everything else about training is the trainer's."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.model.base import LanguageModel
from luhuo.model.decoder import Decoder
from luhuo.model.encoder import Encoder
from luhuo.model.encoder_decoder import EncoderDecoder
from luhuo.train.cross_entropy import linear_cross_entropy

Batch = dict[str, Tensor]

MTP_WEIGHT = 0.3
"""Of multi-token prediction against the next token (DeepSeek-V3 2024, section 4.2)."""


class Objective(Protocol):
    """What a training stage supplies. A batch is a dict of tensors whose first dimension is rows."""

    def weight(self, batch: Batch) -> Tensor:
        """What the loss of this batch will be divided by (valid targets), known before the forward pass."""
        ...

    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """(sum of losses, weight, sums of further metrics). The trainer divides all sums by the global weight."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """An objective that looks at the whole batch of a step before it is split into micro-batches."""

    def prepare(self, model: Any, batch: Batch) -> Batch:
        """The batch with what the loss needs to know about all of it: one more entry a row, or the same in each.

        Called once a step on this process's rows, in evaluation mode and without gradient; what must be equal in all
        processes goes through `Ranks().sum`. So neither micro-batches nor processes change a statistic.
        """
        ...


class CausalLM:
    """Next-token prediction.

    Batches: `ids` (batch, length + 1), optional `segments` like `ids` (0 padding, equal numbers one document), and
    optional `mask` like `ids` (1: this token is a target). A document's first token is never a target, padding
    neither.
    """

    def weight(self, batch: Batch) -> Tensor:
        """Number of targets."""
        return self.row_weights(batch).sum()

    def row_weights(self, batch: Batch) -> Tensor:
        """What each row adds to the weight: (batch,)."""
        return self.targets(batch).sum(1)

    def likelihood(self, model: Decoder, hidden: Tensor, batch: Batch) -> Tensor:
        """Sum of the negative log-likelihood (nats) of the targets, from the states (batch, length, C)."""
        return _likelihood(model, hidden, batch["ids"][:, 1:], self.targets(batch))

    def loss(self, model: Decoder, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Sum of the negative log-likelihood (nats) of the targets.

        In training mode, a model with multi-token prediction adds the mean of its depths' losses times `MTP_WEIGHT`,
        and one with a balancing loss adds that; the likelihood alone is then the metric `next_token`.
        """
        segments, weights = batch.get("segments"), self.row_weights(batch)
        segments = None if segments is None else segments[:, :-1]
        hidden = model.hidden(batch["ids"][:, :-1], segments=segments)
        loss, weight = self.likelihood(model, hidden, batch), weights.sum()
        if not model.training:
            return loss, weight, {}
        extra: dict[str, Tensor] = {}
        if model.config.mtp_layers:
            extra["further_tokens"] = MTP_WEIGHT * self._further(model, hidden, batch)
        balance = model.auxiliary_loss(weights)  # a row counts by its targets, so that no split changes the sum
        if balance is not None:
            extra["balance"] = balance
        metrics = {"next_token": loss.detach(), **{name: value.detach() for name, value in extra.items()}}
        return loss + sum(extra.values()), weight, metrics if extra else {}

    def outcome(self, model: Decoder, batch: Batch) -> tuple[Tensor, Tensor]:
        """States (n, C) from which `model.head` tells tokens, and the right tokens (n,)."""
        segments, valid = batch.get("segments"), self.targets(batch)
        hidden = model.hidden(batch["ids"][:, :-1], segments=None if segments is None else segments[:, :-1])
        return hidden[valid], batch["ids"][:, 1:][valid]

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


class MaskedLM:
    """The tokens behind masks, and with an encoder that has a head for it, how two texts belong together.

    Batches: those of `denoising.masked_lm.MaskedNoise`.
    """

    def weight(self, batch: Batch) -> Tensor:
        """Number of tokens to be told."""
        return batch["mask"].sum()

    def loss(self, model: Encoder, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Sum of the negative log-likelihood (nats) of the masked tokens.

        The loss of a pair's relation is added as often as the pair has masked tokens, so that the global mean is that
        of both tasks together however the batch is split; the tokens alone are then the metric `masked_tokens`.
        """
        mask = batch["mask"] != 0
        hidden = model.hidden(batch["ids"], segments=batch["segments"], types=batch.get("types"))
        loss = token_loss(model, hidden[mask], batch["targets"][mask])
        if "relation" not in batch:
            return loss, mask.sum(), {}
        relation = self._relation(model, hidden, batch)
        return loss + relation, mask.sum(), {"masked_tokens": loss.detach(), "relation": relation.detach()}

    def outcome(self, model: Encoder, batch: Batch) -> tuple[Tensor, Tensor]:
        """States (n, C) from which `model.head` tells tokens, and the right tokens (n,)."""
        mask = batch["mask"] != 0
        hidden = model.hidden(batch["ids"], segments=batch["segments"], types=batch.get("types"))
        return hidden[mask], batch["targets"][mask]

    @staticmethod
    def _relation(model: Encoder, hidden: Tensor, batch: Batch) -> Tensor:
        pairs = batch["relation"] >= 0
        logits = model.text(hidden[pairs][:, None])  # a pair is a text of one token: what stands at its first
        segments, row = batch["segments"], torch.arange(len(hidden), device=hidden.device)[:, None]
        text = row * (segments.shape[1] + 1) + segments
        masked = torch.zeros(int(text.max()) + 1, device=hidden.device).index_add_(
            0, text.flatten(), batch["mask"].flatten().float()
        )
        losses = F.cross_entropy(logits.float(), batch["relation"][pairs], reduction="none")
        return (losses * masked[text[pairs]]).sum()


class SequenceToSequence:
    """What an encoder-decoder writes about what it has read.

    Batches: `ids`, `segments` (batch, read), and `decoder_ids`, `decoder_segments`, `targets` (batch, written), as in
    `denoising.span_corruption.pair_row`.
    """

    def weight(self, batch: Batch) -> Tensor:
        """Number of tokens to write."""
        return (batch["decoder_segments"] != 0).sum()

    def loss(self, model: EncoderDecoder, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Sum of the negative log-likelihood (nats) of the tokens to write."""
        states, targets = self.outcome(model, batch)
        return token_loss(model, states, targets), self.weight(batch), {}

    def outcome(self, model: EncoderDecoder, batch: Batch) -> tuple[Tensor, Tensor]:
        """States (n, C) from which `model.head` tells tokens, and the right tokens (n,)."""
        written = batch["decoder_segments"]
        hidden = model.hidden(batch["ids"], batch["decoder_ids"], segments=batch["segments"], decoder_segments=written)
        return hidden[written != 0], batch["targets"][written != 0]


def _likelihood(model: Decoder, hidden: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Sum of the negative log-likelihood of the valid targets: hidden (B, T, C), targets and valid (B, T)."""
    if valid.all():
        hidden, targets = hidden.flatten(0, 1), targets.flatten()
    else:
        hidden, targets = hidden[valid], targets[valid]
    return token_loss(model, hidden, targets)


def token_loss(model: LanguageModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """Sum of the negative log-likelihood of `targets` (n,) by the model's head on `hidden` (n, C).

    The logits of all targets are never held at once, but for heads that do more than multiply and add.
    """
    if isinstance(model, Encoder) and model.masked_tokens is not None:
        states = model.masked_tokens.transform(hidden)
        return linear_cross_entropy(states, model.embedding, targets, model.masked_tokens.bias)
    if isinstance(model, EncoderDecoder):
        states = hidden if model.config.logit_scale == 1 else hidden * model.config.logit_scale
        return linear_cross_entropy(states, model.head_weight, targets, model.head_bias)
    assert isinstance(model, Decoder)
    if model.plain_head:
        return linear_cross_entropy(hidden, model.head_weight, targets)
    return F.cross_entropy(model.head(hidden).float(), targets, reduction="sum")
