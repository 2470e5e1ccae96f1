"""MiniLLM: the reverse KL divergence of whole answers, by policy gradient (Gu et al. 2024, algorithm 1).

    loss = mean over sampled tokens ( -min(ρ·R, clip(ρ, 1 - ε, 1 + ε)·R)  +  KL(q‖p) at the token )
         + γ · mean of -log q of given conversations

with ρ = q / q_old and R what comes behind a token (`on_policy`). The divergence at a token is that of all of both
distributions, and so is its gradient; the policy gradient is for what cannot be known that way. Not taken from the
paper: sampling from a mixture with the teacher; here all samples are the student's own, so no weights are needed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from luhuo.align.distill.divergence import Divergence
from luhuo.align.distill.objective import Distillation
from luhuo.align.distill.teacher import Teacher
from luhuo.align.kl_estimators import FARTHEST
from luhuo.align.log_probs import selected_log_probs
from luhuo.align.ppo import policy_losses
from luhuo.align.supervised import SupervisedLM
from luhuo.model.decoder import Decoder
from luhuo.train.objective import Batch, CausalLM
from luhuo.train.ranks import Ranks


class MiniLLM(Distillation):
    """Batches are `ids`, `segments`, `mask`, and (rows, length) `advantages` and `old_log_probs`; with given
    conversations also `text_ids`, `text_segments`, `text_mask`, of equally many rows.

    `temperature` is that of sampling: p and q are the distributions at it. The divergence is not multiplied by its
    square, since it is added to the sampled part, which is not either.
    """

    def __init__(self, teacher: Teacher, *, temperature: float = 1.0, clip: float = 0.2, text: float = 0.0) -> None:
        super().__init__(Divergence("reverse", temperature=temperature), 1.0, teacher)
        self.temperature, self.clip, self.text = temperature, clip, text

    def prepare(self, model: Decoder, batch: Batch) -> Batch:
        """The batch with `text_weight` (rows,): what turns a sum over given tokens into a mean over all of them."""
        if "text_ids" not in batch:
            return batch
        totals = Ranks().sum(torch.stack([self.weight(batch).double(), CausalLM.targets(_text(batch)).sum().double()]))
        share = (totals[0] / totals[1].clamp(min=1)).float()
        return batch | {"text_weight": share.expand(len(batch["ids"])).clone()}

    def loss(self, model: Decoder, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Sum over the sampled tokens of everything above."""
        loss, weight, metrics = super().loss(model, batch)
        if "text_ids" in batch:
            text = batch["text_weight"][0] * SupervisedLM().loss(model, _text(batch))[0]
            loss, metrics = loss + self.text * text, metrics | {"text_loss": text.detach()}
        return loss, weight, metrics

    def likelihood(self, model: Decoder, hidden: Tensor, batch: Batch) -> Tensor:
        """Both parts, from one pass of the student."""
        valid = self.targets(batch)
        single = super().likelihood(model, hidden, batch) / self.temperature**2
        targets, old = batch["ids"][:, 1:][valid], batch["old_log_probs"][valid]
        log_probs, _ = selected_log_probs(model, hidden[valid], targets, self.temperature)
        losses, ratio, clipped = policy_losses(log_probs, old, batch["advantages"][valid], self.clip, 0.0)
        change = (log_probs.detach() - old).clamp(-FARTHEST, FARTHEST)
        self._told |= {
            "policy_loss": losses.detach().sum(),
            "ratio": ratio.sum(),
            "clip_share": clipped.sum(),
            "approx_kl": (ratio - 1 - change).sum(),
        }
        return single + losses.sum()


def _text(batch: Batch) -> Batch:
    """The given conversations of a batch, as fine-tuning reads them."""
    return {name: batch[f"text_{name}"] for name in ("ids", "segments", "mask")}
