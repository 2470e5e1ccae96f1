"""Rank responses to align with human feedback: several scored answers to a prompt, the better the likelier.

With p the mean log-probability of an answer's tokens and s its score (Yuan et al. 2023, eq. 2 to 5):

    loss = Σ over answers i, j of one prompt with s_i < s_j of max(0, p_i - p_j)  +  sft · -log π(best answer)

There is no reference and no other model while it trains. A sum over pairs, as in the paper: prompts with more answers
count more. The second term is the mean over the best answers' tokens of the global batch, as in `sft`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from luhuo.align.log_probs import sequence_counts, token_log_probs
from luhuo.align.preference.objective import Metrics, answer_sums
from luhuo.model.decoder import Decoder
from luhuo.train.objective import Batch
from luhuo.train.ranks import Ranks


class RRHF:
    """Batches are those of `UnitLoader`: a unit is the answers to one prompt, with `score` and `best` (1 for one
    answer of each unit): (rows, sequences)."""

    has_reference = False

    def __init__(self, *, sft: float = 1.0) -> None:
        self.sft = sft

    def weight(self, batch: Batch) -> Tensor:
        """Number of prompts."""
        return batch["unit"].amax(1).sum()

    def prepare(self, model: Decoder, batch: Batch) -> Batch:
        """Adds the weight of a token in the SFT term."""
        counts = sequence_counts(batch)
        best = batch["best"][:, : counts.shape[1]]
        totals = Ranks().sum(torch.stack([(counts * best).sum().double(), self.weight(batch).double()]))
        share = totals[1] / totals[0].clamp(min=1)
        return batch | {"token_weight": share.float().expand(len(best))}

    def loss(self, model: Decoder, batch: Batch) -> tuple[Tensor, Tensor, Metrics]:
        """Sum of the losses of the prompts."""
        counts = sequence_counts(batch)
        sums = answer_sums(token_log_probs(model, batch), batch)
        width = sums.shape[1]
        unit, score, best = (batch[name][:, :width] for name in ("unit", "score", "best"))
        means = sums / counts.clamp(min=1)
        together = (unit[:, :, None] == unit[:, None]) & (unit[:, :, None] > 0)
        worse = together & (score[:, :, None] < score[:, None])  # the first of two against the second
        lead = means[:, None] - means[:, :, None]
        ranking = torch.relu(-lead)[worse].sum()
        likelihood = -((sums * best).sum(1) * batch["token_weight"]).sum()
        pairs = (together.float() @ worse.sum(2, keepdim=True).float()).clamp(min=1)  # of the unit, at each place
        right = ((lead.detach() > 0) & worse) / pairs
        metrics = {"ranking": ranking.detach(), "sft": likelihood.detach(), "accuracy": right.sum()}
        return ranking + self.sft * likelihood, self.weight(batch), metrics
