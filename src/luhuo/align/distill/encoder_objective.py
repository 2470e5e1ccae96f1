"""Distillation of encoders: what a teacher takes masked tokens for, its states, its attention.

    loss = mean over masked tokens (share · T²·D(teacher, student) + (1 - share) · -log q(what was there))
         + mean over tokens (a · states + b · attention)

(Sanh et al. 2019, "DistilBERT"; Jiao et al. 2020, "TinyBERT", general distillation: share 0, states and attention.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from luhuo.align.distill.divergence import Divergence
from luhuo.align.distill.loss import TOLD, Lesson, taught_loss
from luhuo.align.distill.matching import AttentionMatch, StateMatch
from luhuo.align.distill.recording import Record, recording
from luhuo.align.distill.soft_targets import LiveTargets
from luhuo.align.distill.teacher import Teacher
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.encoder import Encoder
from luhuo.train.objective import Batch, MaskedLM, token_loss
from luhuo.train.ranks import Ranks


class EncoderDistillation(MaskedLM):
    """Batches are those of `MaskedLM`: the teacher reads the same masked texts. Raises `LuhuoError` for a teacher that
    tells no tokens, if what it tells counts."""

    def __init__(
        self,
        divergence: Divergence,
        share: float,
        teacher: Teacher,
        *,
        states: StateMatch | None = None,
        attention: AttentionMatch | None = None,
    ) -> None:
        assert isinstance(teacher.model, Encoder)
        if share and teacher.model.masked_tokens is None:
            raise LuhuoError(
                tr("The teacher has no head that tells masked tokens.", "教师没有预测被遮蔽词元的输出头。"),
                found=teacher.model.config.head,
                where="share",
                fix="share: 0, states: {}, attention: {}",
            )
        self.divergence, self.share, self.teacher = divergence, share, teacher
        self.states, self.attention = states, attention

    def prepare(self, model: Encoder, batch: Batch) -> Batch:
        """Adds `token_weight` (rows,): what turns a sum over tokens into a mean over all of the global batch, since
        the trainer divides by the masked tokens, which are fewer."""
        totals = Ranks().sum(torch.stack([self.weight(batch).double(), (batch["segments"] != 0).sum().double()]))
        weight = (totals[0] / totals[1].clamp(min=1)).float()
        return batch | {"token_weight": weight.expand(len(batch["ids"])).clone()}

    def loss(self, model: Encoder, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Sum of the losses (nats); the metrics `divergence`, `next_token` (of masked tokens), `agreement`, `states`,
        `attention`, and `relation` where pairs of texts are told apart."""
        mask = batch["mask"] != 0
        read = {"segments": batch["segments"], "types": batch.get("types")}
        with recording(model, *self._layers(student=True)) as mine:
            hidden = model.hidden(batch["ids"], **read)
        with torch.no_grad(), recording(self.teacher.model, *self._layers(student=False)) as theirs:
            taught = self.teacher.model.hidden(batch["ids"], **read)
        loss, told = self._tokens(model, hidden[mask], taught[mask], batch["targets"][mask])
        for name, value in self._matched(model, batch, mine, theirs).items():
            loss, told[name] = loss + value, value.detach()
        if "relation" in batch:
            relation = (1 - self.share) * self._relation(model, hidden, batch)
            loss, told["relation"] = loss + relation, relation.detach()
        return loss, mask.sum(), told

    def _tokens(
        self, model: Encoder, hidden: Tensor, taught: Tensor, targets: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if not self.share:
            found = token_loss(model, hidden, targets)
            return found, {"next_token": found.detach()}
        soft = LiveTargets(self.teacher.model, taught, self.divergence, self.teacher.vocabulary)
        ones = torch.ones(len(targets), device=targets.device)
        loss, told = taught_loss(model, hidden, Lesson(targets, ones, soft, self.divergence, self.share))
        return loss, dict(zip(TOLD, told, strict=True))

    def _layers(self, *, student: bool) -> tuple[list[int], list[int]]:
        """Layers of states and of attention that are recorded."""
        maps = [{} if match is None else match.layers for match in (self.states, self.attention)]
        first, second = ([*(layers if student else layers.values())] for layers in maps)
        return first, second

    def _matched(self, model: Encoder, batch: Batch, mine: Record, theirs: Record) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        scale, segments = batch["token_weight"][0], batch["segments"]
        if self.states is not None:
            found["states"] = self.states.config.weight * scale * self.states.loss(model, mine, theirs, segments != 0)
        if self.attention is not None:
            found["attention"] = self.attention.config.weight * scale * self.attention.loss(mine, theirs, segments)
        return found
