"""The objective of distillation on given texts: soft and hard targets, hidden states, attention.

    loss = mean over targets (share · T²·D(teacher, student) + (1 - share) · -log q(target))
         + mean over tokens (a · states + b · attention)

(Hinton et al. 2015; Jiao et al. 2020.) It stands on the loss of fine-tuning, so that weights of messages, NEFTune,
balanced experts and multi-token prediction are what they are there.
"""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor

from luhuo.align.distill.divergence import Divergence
from luhuo.align.distill.loss import TOLD, Lesson, taught_loss
from luhuo.align.distill.matching import AttentionMatch, StateMatch
from luhuo.align.distill.recording import Record, recording
from luhuo.align.distill.soft_targets import SoftTargets, StoredTargets
from luhuo.align.distill.teacher import Teacher
from luhuo.align.supervised import SupervisedLM
from luhuo.model.decoder import Decoder
from luhuo.train.objective import Batch
from luhuo.train.ranks import Ranks


class Distillation(SupervisedLM):
    """Batches are those of `SupervisedLM`. Without a teacher they have, aligned with `ids[:, 1:]`, `soft_ids` and
    `soft_values` (rows, length, k) and `soft_rest` (rows, length): what stage `teacher-logits` kept.

    `states` and `attention` need a teacher.
    """

    def __init__(
        self,
        divergence: Divergence,
        share: float,
        teacher: Teacher | None = None,
        *,
        vocabulary: int = 0,
        states: StateMatch | None = None,
        attention: AttentionMatch | None = None,
        neftune: float = 0.0,
    ) -> None:
        super().__init__(neftune)
        self.divergence, self.share, self.teacher = divergence, share, teacher
        self.vocabulary = vocabulary if teacher is None else teacher.vocabulary
        self.states, self.attention = states, attention
        self._told: dict[str, Tensor] = {}
        self._taught = torch.empty(0)

    def prepare(self, model: Decoder, batch: Batch) -> Batch:
        """Adds `token_weight` (rows,): what turns a sum over tokens into a mean over all of the global batch, since
        the trainer divides by the targets, which are fewer."""
        if self.states is None and self.attention is None:
            return batch
        return batch | {"token_weight": self._token_weight(batch).expand(len(batch["ids"])).clone()}

    def loss(self, model: Decoder, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Sum of the losses (nats); the metrics `divergence`, `next_token`, `agreement`, `states`, `attention`."""
        self._told = {}
        mine, theirs = self._layers()
        with ExitStack() as stack:
            student = stack.enter_context(recording(model, *mine))
            seen = Record()
            if self.teacher is not None:
                with recording(self.teacher.model, *theirs) as seen:
                    self._taught = self.teacher.states(batch)
            loss, weight, metrics = super().loss(model, batch)
        matched = self._matched(model, batch, student, seen)
        self._taught = torch.empty(0)
        for name, value in matched.items():
            loss = loss + value
            self._told[name] = value.detach()
        return loss, weight, metrics | self._told

    def likelihood(self, model: Decoder, hidden: Tensor, batch: Batch) -> Tensor:
        """Sum over the targets of both parts of the loss, from the states (rows, length, width)."""
        if not self.share:
            found = super().likelihood(model, hidden, batch)
            self._told["next_token"] = found.detach()
            return found
        valid = self.targets(batch)
        targets = batch["ids"][:, 1:][valid]
        weights = batch["weights"][:, 1:][valid] if "weights" in batch else torch.ones_like(targets, dtype=torch.float)
        lesson = Lesson(targets, weights, self._soft(batch, valid), self.divergence, self.share)
        loss, told = taught_loss(model, hidden[valid], lesson)
        self._told |= dict(zip(TOLD, told, strict=True))
        return loss

    def _soft(self, batch: Batch, valid: Tensor) -> SoftTargets:
        if self.teacher is not None:
            return self.teacher.targets(self._taught[valid], self.divergence)
        found = (batch[name][valid] for name in ("soft_ids", "soft_values", "soft_rest"))
        return StoredTargets(*found, vocabulary=self.vocabulary)

    def _layers(self) -> tuple[tuple[set[int], set[int]], tuple[set[int], set[int]]]:
        """What is recorded of the student and of the teacher: layers of states, layers of attention."""
        states = {} if self.states is None else self.states.layers
        attention = {} if self.attention is None else self.attention.layers
        return (set(states), set(attention)), (set(states.values()), set(attention.values()))

    def _matched(self, model: Decoder, batch: Batch, student: Record, teacher: Record) -> dict[str, Tensor]:
        segments = batch["segments"][:, :-1] if "segments" in batch else torch.ones_like(batch["ids"][:, :-1])
        found: dict[str, Tensor] = {}
        if self.states is None and self.attention is None:
            return found
        scale = batch["token_weight"][0] if "token_weight" in batch else self._token_weight(batch)
        if self.states is not None:
            value = self.states.loss(model, student, teacher, segments != 0)
            found["states"] = self.states.config.weight * scale * value
        if self.attention is not None:
            value = self.attention.loss(student, teacher, segments)
            found["attention"] = self.attention.config.weight * scale * value
        return found

    def _token_weight(self, batch: Batch) -> Tensor:
        """Weight of the targets over the number of tokens read, of all processes: a scalar."""
        read = (batch["segments"] if "segments" in batch else batch["ids"].new_ones(batch["ids"].shape))[:, :-1] != 0
        totals = Ranks().sum(torch.stack([self.weight(batch).double(), read.sum().double()]))
        return (totals[0] / totals[1].clamp(min=1)).float()
