"""Contrastive preference optimisation: DPO against a uniform reference, held back by fine-tuning (Xu et al. 2024).

    loss = -log σ(β log π(chosen) - β log π(rejected)) + sft · -log π(chosen)            (eq. 5)

Sums over the answer's tokens in the first term, the mean over the tokens of the global batch in the second, as in
`sft`. Where no reference holds the model back, the second term does: without it both answers get improbable.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from luhuo.align.preference.objective import PairObjective, Pairs


class CPO(PairObjective):
    """Rewards are β log π."""

    def __init__(self, *, beta: float = 0.1, label_smoothing: float = 0.0, sft: float = 1.0) -> None:
        super().__init__(sft=sft)
        self.beta, self.smoothing = beta, label_smoothing

    def rewards(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """β log π of both."""
        return self.beta * pairs.chosen, self.beta * pairs.rejected

    def losses(self, pairs: Pairs) -> Tensor:
        """The first term."""
        chosen, rejected = self.rewards(pairs)
        lead = chosen - rejected
        return -(1 - self.smoothing) * logsigmoid(lead) - self.smoothing * logsigmoid(-lead)
