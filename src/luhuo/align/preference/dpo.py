"""Direct preference optimisation, and losses of the same two log-ratios.

The policy that maximises reward minus β · KL is π ∝ π_ref · exp(r / β), so r = β log (π / π_ref) up to a term of the
prompt alone, which cancels in a pair: the model is its own reward model (Rafailov et al. 2023, section 4). With
c = log π(chosen) - log π_ref(chosen), r the same of the rejected answer, Δ = c - r, σ the logistic function, and ε the
share of labels that are taken to be wrong:

| `loss`       | of a pair                                       | source                                        |
| ------------ | ----------------------------------------------- | ----------------------------------------------- |
| sigmoid      | -(1-ε) log σ(βΔ) - ε log σ(-βΔ)                 | Rafailov et al. 2023, eq. 7; ε: Mitchell 2023 |
| robust       | [-(1-ε) log σ(βΔ) + ε log σ(-βΔ)] / (1-2ε)      | Chowdhury et al. 2024, eq. 12: unbiased   |
| hinge        | max(0, 1 - βΔ)                                  | Zhao et al. 2023, SLiC-HF                  |
| ipo          | (Δ - 1/(2β))², Δ of means over tokens           | Azar et al. 2023, eq. 17                      |
| exo          | KL of (σ(βΔ), σ(-βΔ)) from (1-ε, ε)             | Ji et al. 2024, for pairs                     |
| apo_zero     | 1 - σ(βc) + σ(βr)                               | D'Oosterlinck et al. 2024: one up, one down   |
| apo_down     | σ(βc) + 1 - σ(β(c - r))                         | the same: both down, the rejected one more    |

Sums over the answer's tokens, but for ipo: a sum would ask the same margin of long answers and short ones, whose
log-ratios differ by their lengths. `normalise` takes means for the others too.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from luhuo.align.preference.config import DpoLoss
from luhuo.align.preference.objective import AsBefore, PairObjective, Pairs

LEAST = 1e-3
"""Smoothing of exo where none is given: without any it would be infinite (the authors' choice)."""


class DPO(PairObjective):
    """Direct preference optimisation: `loss` says of which kind. Rewards are β times the log-ratios."""

    has_reference = True

    def __init__(
        self,
        loss: DpoLoss = "sigmoid",
        *,
        beta: float = 0.1,
        label_smoothing: float = 0.0,
        normalise: bool = False,
        margin_weight: float = 0.0,
        sft: float = 0.0,
        reference: AsBefore | None = None,
    ) -> None:
        super().__init__(sft=sft, reference=reference)
        self.kind: DpoLoss = loss
        self.beta, self.smoothing, self.margin_weight = beta, label_smoothing, margin_weight
        self.normalise = normalise or loss == "ipo"

    def ratios(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """The log-ratios c and r of a pair, as sums or means over the answer's tokens."""
        if not self.normalise:
            return pairs.chosen_gain, pairs.rejected_gain
        return pairs.chosen_gain / pairs.chosen_tokens, pairs.rejected_gain / pairs.rejected_tokens

    def rewards(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """β c and β r."""
        chosen, rejected = self.ratios(pairs)
        return self.beta * chosen, self.beta * rejected

    def losses(self, pairs: Pairs) -> Tensor:
        """The table above. With `margin_weight` an answer that is better by m must lead by that much more (Amini et
        al. 2024, ODPO, eq. 5): βΔ becomes βΔ - margin_weight · m."""
        chosen, rejected = self.ratios(pairs)
        if self.kind == "ipo":
            return (chosen - rejected - 1 / (2 * self.beta)) ** 2
        good, bad = self.beta * chosen, self.beta * rejected
        if self.kind == "apo_zero":
            return 1 - torch.sigmoid(good) + torch.sigmoid(bad)
        if self.kind == "apo_down":
            return torch.sigmoid(good) + 1 - torch.sigmoid(good - bad)
        lead = good - bad - self.margin_weight * pairs.margin
        if self.kind == "hinge":
            return torch.relu(1 - lead)
        right, wrong, wrongs = logsigmoid(lead), logsigmoid(-lead), self.smoothing
        if self.kind == "robust":
            return (wrongs * wrong - (1 - wrongs) * right) / (1 - 2 * wrongs)
        if self.kind == "exo":
            return _divergence(right, wrong, max(wrongs, LEAST))
        return -(1 - wrongs) * right - wrongs * wrong


def _divergence(right: Tensor, wrong: Tensor, wrongs: float) -> Tensor:
    """KL of the two shares exp(right), exp(wrong) from 1 - ε and ε."""
    share = torch.tensor([1 - wrongs, wrongs]).log().tolist()
    return right.exp() * (right - share[0]) + wrong.exp() * (wrong - share[1])
