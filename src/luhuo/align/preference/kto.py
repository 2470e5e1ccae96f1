"""Kahneman-Tversky optimisation: single answers, each judged good or bad, instead of pairs (Ethayarajh et al. 2024).

With g = log π(answer) - log π_ref(answer) and z the KL of the policy from the reference (eq. 8):

    loss of a good answer = λ_D (1 - σ(β(g - z)))        of a bad one = λ_U (1 - σ(β(z - g)))

z is the point from which gain and loss count. Its estimate is max(0, mean of g over answers to *other* prompts), taken
over the global batch before it is split, without gradient. A batch of one unit, whose z says nothing, is refused.
"""

from __future__ import annotations

import torch
from torch import Tensor

from luhuo.align.log_probs import by_rows, token_log_probs
from luhuo.align.preference.objective import AsBefore, Metrics, answer_sums, reference_sums
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.decoder import Decoder
from luhuo.train.objective import Batch
from luhuo.train.ranks import Ranks

PLANE = "other_"
"""Prefix of the entries that hold the answers to other prompts."""


class KTO:
    """Batches are those of `UnitLoader`: one sequence a unit, `label` (rows, sequences) 1 for a good answer and 0 for
    a bad one, and in a plane of its own each prompt with the answer to another one.

    `desirable` is λ_D, `undesirable` λ_U: the paper wants λ_D · good answers to λ_U · bad ones between 1 and 3/2.
    """

    has_reference = True

    def __init__(
        self,
        *,
        beta: float = 0.1,
        desirable: float = 1.0,
        undesirable: float = 1.0,
        reference: AsBefore | None = None,
    ) -> None:
        self.beta, self.desirable, self.undesirable, self.reference = beta, desirable, undesirable, reference

    def weight(self, batch: Batch) -> Tensor:
        """Number of answers."""
        return batch["segments"].amax(1).sum()

    def prepare(self, model: Decoder, batch: Batch) -> Batch:
        """Adds the `baseline` z, the same in each row, and `reference` where it is not there yet."""
        others = {name.removeprefix(PLANE): value for name, value in batch.items() if name.startswith(PLANE)}
        batch = {name: value for name, value in batch.items() if not name.startswith(PLANE)}
        before = others.pop("reference", None)
        if "reference" not in batch or before is None:
            batch["reference"] = reference_sums(self.reference, model, batch)
            before = reference_sums(self.reference, model, others)
        parts = [answer_sums(token_log_probs(model, part), part) for part in by_rows(others, model.device)]
        gain = sum((part.sum().double() for part in parts), torch.zeros((), dtype=torch.float64, device=model.device))
        count = self.weight(batch).double()
        good = (batch["label"] * _there(batch)).sum().double()
        totals = Ranks().sum(torch.stack([gain - before.sum().double(), count, good]))
        if totals[1] < 2:
            raise LuhuoError(
                tr("KTO needs more than one answer a batch.", "KTO 每批需要多于一个回答。"),
                expected="batch >= 2",
                found=int(totals[1]),
                where="batch",
            )
        rows = len(batch["ids"])
        batch["baseline"] = (totals[0] / totals[1]).clamp(min=0).float().expand(rows)
        # The trainer divides sums by all answers; the mean reward of the good ones is over the good ones.
        batch["of_good"] = (totals[1] / totals[2].clamp(min=1)).float().expand(rows)
        batch["of_bad"] = (totals[1] / (totals[1] - totals[2]).clamp(min=1)).float().expand(rows)
        return batch

    def loss(self, model: Decoder, batch: Batch) -> tuple[Tensor, Tensor, Metrics]:
        """Sum of the losses of the answers."""
        there = _there(batch)
        sums = answer_sums(token_log_probs(model, batch), batch)
        width = there.shape[1]
        gain = (sums - batch["reference"][:, :width])[there]
        good = batch["label"][:, :width][there] > 0.5
        baseline, of_good, of_bad = (
            batch[name][:, None].expand(there.shape)[there] for name in ("baseline", "of_good", "of_bad")
        )
        losses = torch.where(
            good,
            self.desirable * (1 - torch.sigmoid(self.beta * (gain - baseline))),
            self.undesirable * (1 - torch.sigmoid(self.beta * (baseline - gain))),
        )
        rewards, answers = self.beta * gain.detach(), sums.detach()[there]
        metrics = {
            "rewards.chosen": (rewards * good * of_good).sum(),
            "rewards.rejected": (rewards * ~good * of_bad).sum(),
            "log_probs.chosen": (answers * good * of_good).sum(),
            "log_probs.rejected": (answers * ~good * of_bad).sum(),
            "kl": baseline.sum(),
            "accuracy": ((gain.detach() > baseline) == good).float().sum(),
        }
        metrics["rewards.margin"] = metrics["rewards.chosen"] - metrics["rewards.rejected"]
        return losses.sum(), self.weight(batch), metrics


def _there(batch: Batch) -> Tensor:
    """Which places (rows, sequences) of this batch hold a sequence."""
    counts = batch["segments"].amax(1)
    return torch.arange(max(1, int(counts.max())), device=counts.device) < counts[:, None]
