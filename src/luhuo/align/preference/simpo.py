"""Simple preference optimisation: the mean log-probability itself is the reward, no reference (Meng et al. 2024).

    loss = -log σ(β/|chosen| log π(chosen) - β/|rejected| log π(rejected) - γ)            (eq. 6)

Means, because that is what decides when the model writes: a sum would reward short answers. γ is the lead a chosen
answer has to have; the authors take β from 2 to 10 and γ/β from 0.3 to 1.6, and say that both want tuning.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from luhuo.align.preference.objective import PairObjective, Pairs


class SimPO(PairObjective):
    """`margin` is γ; `label_smoothing` the share of labels taken to be wrong; `sft` as in CPO-SimPO."""

    def __init__(
        self, *, beta: float = 2.0, margin: float = 1.0, label_smoothing: float = 0.0, sft: float = 0.0
    ) -> None:
        super().__init__(sft=sft)
        self.beta, self.margin, self.smoothing = beta, margin, label_smoothing

    def rewards(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """β times the mean log-probabilities."""
        return self.beta * pairs.chosen / pairs.chosen_tokens, self.beta * pairs.rejected / pairs.rejected_tokens

    def losses(self, pairs: Pairs) -> Tensor:
        """Equation 6."""
        chosen, rejected = self.rewards(pairs)
        lead = chosen - rejected - self.margin
        return -(1 - self.smoothing) * logsigmoid(lead) - self.smoothing * logsigmoid(-lead)
