"""What a reward model learns from: comparisons, single judgements, or judgements of steps.

| data | loss | source |
| ---- | ---- | ------ |
| chosen and rejected, or a ranking of k answers | -log σ(r_better - r_worse - margin) | Ouyang et al. 2022, eq. 1 |
| an answer and whether it is good | binary cross-entropy of r | Cobbe et al. 2021 |
| an answer and a score | squared error of r | Stiennon et al. 2020 |
| steps of an answer and whether each is right | binary cross-entropy at each step's end | Lightman et al. 2023 |
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.align.reward_model import AnyRewardModel
from luhuo.train.objective import Batch


class PairwiseReward:
    """Bradley-Terry over pairs of segments of a row.

    Batches: `ids`, `segments` (rows, time), and for each pair of a row `better`, `worse` (rows, pairs): segment
    numbers; `margin`: by how much the better one should lead at least (Touvron et al. 2023, section 3.2.2); `share`:
    what the pair counts, 0 where there is none. The pairs of one ranking count 1 together.

    Differences leave the mean of the scores open: `centre` times (r_better + r_worse)² holds it at zero (Eisenstein
    et al. 2023, section 3).
    """

    def __init__(self, centre: float = 0.0) -> None:
        self.centre = centre

    def weight(self, batch: Batch) -> Tensor:
        """Number of comparisons; a ranking counts once."""
        return batch["share"].sum()

    def loss(self, model: AnyRewardModel, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Sum of the losses (nats); `accuracy`, `margin` (score of the better minus the worse) and `reward`."""
        scores, share = model.scores(batch), batch["share"]
        better, worse = (_at(scores, batch[name]) for name in ("better", "worse"))
        lead = better - worse
        loss = F.softplus(batch["margin"] - lead)
        if self.centre:
            loss = loss + self.centre * (better + worse) ** 2
        found = {"accuracy": (lead > 0).float(), "margin": lead, "reward": (better + worse) / 2}
        return (loss * share).sum(), share.sum(), {name: (v.detach() * share).sum() for name, v in found.items()}


class PointwiseReward:
    """A label for each segment of a row: whether it is good (`binary`, 0 or 1) or its score (`regression`).

    Batches: `ids`, `segments` (rows, time); `labels` and `known` (rows, sequences): 1 where there is a label.
    """

    def __init__(self, kind: Literal["binary", "regression"]) -> None:
        self.kind = kind

    def weight(self, batch: Batch) -> Tensor:
        """Number of labels."""
        return batch["known"].sum()

    def loss(self, model: AnyRewardModel, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Sum of the losses, and the share that is right (binary) or the mean score."""
        scores = model.scores(batch)
        width = scores.shape[1]
        return _judged(self.kind, scores, batch["labels"][:, :width], batch["known"][:, :width])


class ProcessReward:
    """A label for each step, at the token that ends it.

    Batches: `ids`, `segments`, `labels` and `known` (rows, time): 1 at the last token of a step.
    """

    def weight(self, batch: Batch) -> Tensor:
        """Number of steps."""
        return batch["known"].sum()

    def loss(self, model: AnyRewardModel, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Sum of the binary cross-entropies, and the share of steps that is judged right."""
        return _judged("binary", model.token_scores(batch), batch["labels"], batch["known"])


RewardObjective = PairwiseReward | PointwiseReward | ProcessReward


def _at(scores: Tensor, numbers: Tensor) -> Tensor:
    """Scores (rows, pairs) of the segments with these numbers (rows, pairs), which count from 1."""
    return scores.gather(1, (numbers.long() - 1).clamp(0, scores.shape[1] - 1))


def _judged(kind: str, scores: Tensor, labels: Tensor, known: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    if kind == "binary":
        losses = F.binary_cross_entropy_with_logits(scores, labels, reduction="none")
        found = {"accuracy": ((scores > 0) == (labels > 0.5)).float()}
    else:
        losses = (scores - labels) ** 2
        found = {"reward": scores}
    counts = known.to(losses.dtype)
    metrics = {name: (value.detach() * counts).sum() for name, value in found.items()}
    return torch.where(known != 0, losses, 0.0).sum(), counts.sum(), metrics
