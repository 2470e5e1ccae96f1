"""Odds-ratio preference optimisation: fine-tuning and preferences in one step, without a reference (Hong et al. 2024).

With p the geometric mean of the probabilities of an answer's tokens, and odds = p / (1 - p):

    loss = -log p(chosen) + λ · -log σ(log odds(chosen) - log odds(rejected))            (eq. 6 and 7)

The first term is fine-tuning itself, so ORPO starts from a base model. It is the mean over the tokens of the global
batch, as in `sft`; the authors' code, like TRL's, counts the prompt's tokens in it too (`learn_prompt` of the stage).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from luhuo.align.preference.objective import PairObjective, Pairs

NEARLY_ONE = -1e-6
"""Largest mean log-probability whose odds are taken: those of certainty are infinite."""


class ORPO(PairObjective):
    """`weight_of_odds` is λ. Rewards are λ times the mean log-probabilities, for the logs alone."""

    def __init__(self, *, weight_of_odds: float = 0.1) -> None:
        super().__init__(sft=1.0)
        self.scale = weight_of_odds

    def rewards(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """λ log p of both."""
        return self.scale * pairs.chosen / pairs.chosen_tokens, self.scale * pairs.rejected / pairs.rejected_tokens

    def losses(self, pairs: Pairs) -> Tensor:
        """λ times -log σ of the log odds ratio."""
        chosen = log_odds(pairs.chosen / pairs.chosen_tokens)
        return -self.scale * logsigmoid(chosen - log_odds(pairs.rejected / pairs.rejected_tokens))


def log_odds(log_probability: Tensor) -> Tensor:
    """log p - log(1 - p) of log p, exact for probabilities near 0 and near 1."""
    value = log_probability.clamp(max=NEARLY_ONE)
    return value - torch.log(-torch.expm1(value))
