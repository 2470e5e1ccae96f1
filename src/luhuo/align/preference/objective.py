"""What all losses over pairs share: from the tokens of a batch to numbers for each pair, and what is logged.

Losses are sums over pairs, divided by the pairs of the global batch. The SFT term is the mean over the chosen answers'
tokens of the global batch, as in fine-tuning itself; that mean is known before the batch is split (`prepare`).
"""

from __future__ import annotations

import abc
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from luhuo.align.log_probs import by_rows, sequence_counts, sequence_sums, token_log_probs
from luhuo.align.preference.rendering import PROMPT
from luhuo.model.decoder import Decoder
from luhuo.train.objective import Batch, CausalLM
from luhuo.train.ranks import Ranks

Metrics = dict[str, Tensor]


class AsBefore(Protocol):
    """How to compute what a model computed before training: `align.policy.reference`, or a frozen copy."""

    def __call__(self, model: Decoder) -> AbstractContextManager[Decoder]:
        """The model that answers as the trained one did before training."""
        ...


@dataclass(frozen=True)
class Pairs:
    """Both sides of the pairs of a (micro-)batch: each (pairs,) fp32, natural logarithms summed over the answer."""

    chosen: Tensor
    """log π(chosen | prompt)."""
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    chosen_reference: Tensor
    """log π_ref(chosen | prompt); 0 where the loss has no reference."""
    rejected_reference: Tensor
    margin: Tensor
    """By how much the chosen one is better, where the data say so; else 0."""

    @property
    def chosen_gain(self) -> Tensor:
        """log π(chosen) - log π_ref(chosen)."""
        return self.chosen - self.chosen_reference

    @property
    def rejected_gain(self) -> Tensor:
        """log π(rejected) - log π_ref(rejected)."""
        return self.rejected - self.rejected_reference


class PairObjective(abc.ABC):
    """The base of losses over pairs.

    Batches are those of `UnitLoader`: a row's pairs are its segments 2k + 1 (chosen) and 2k + 2 (rejected). `sft` is
    the weight of the chosen answer's likelihood in the loss (its prompt's too, where the mask says so).
    """

    has_reference = False
    """Whether the loss compares with the model before training."""

    def __init__(self, *, sft: float = 0.0, reference: AsBefore | None = None) -> None:
        self.sft, self.reference = sft, reference

    @abc.abstractmethod
    def losses(self, pairs: Pairs) -> Tensor:
        """The loss of each pair, without the SFT term: (pairs,)."""

    @abc.abstractmethod
    def rewards(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """What the method takes for the rewards of chosen and rejected: (pairs,) each."""

    def weight(self, batch: Batch) -> Tensor:
        """Number of pairs."""
        return count_pairs(batch).sum()

    def prepare(self, model: Decoder, batch: Batch) -> Batch:
        """Adds `reference` (rows, sequences) where it is not there yet, and the weight of a token in the SFT term."""
        if self.has_reference and "reference" not in batch:
            batch = batch | {"reference": reference_sums(self.reference, model, batch)}
        if self.sft:
            tokens, pairs = sequence_counts(batch)[:, 0::2], count_pairs(batch)
            totals = Ranks().sum(torch.stack([tokens.sum().double(), pairs.sum().double()]))
            share = totals[1] / totals[0].clamp(min=1)  # the trainer divides by the pairs
            batch = batch | {"token_weight": share.float().expand(len(pairs))}
        return batch

    def loss(self, model: Decoder, batch: Batch) -> tuple[Tensor, Tensor, Metrics]:
        """Sum of the losses (nats) of the pairs."""
        tokens = token_log_probs(model, batch)
        answers = answer_sums(tokens, batch)
        pairs = _pairs(answers, batch)
        losses = self.losses(pairs)
        metrics = self._metrics(pairs) | {"preference": losses.detach().sum()}
        total = losses.sum()
        if self.sft:
            likelihood = -sequence_sums(tokens, batch)[:, 0::2].sum(1) * batch["token_weight"]
            total = total + self.sft * likelihood.sum()
            metrics["sft"] = likelihood.detach().sum()
        balance = model.auxiliary_loss(count_pairs(batch)) if model.training else None
        if balance is not None:  # a model with experts keeps them evenly used
            total, metrics["balance"] = total + balance, balance.detach()
        return total, count_pairs(batch).sum(), metrics

    def _metrics(self, pairs: Pairs) -> Metrics:
        with torch.no_grad():
            chosen, rejected = self.rewards(pairs)
            found = {
                "rewards.chosen": chosen,
                "rewards.rejected": rejected,
                "rewards.margin": chosen - rejected,
                "accuracy": (chosen > rejected).float(),
                "log_probs.chosen": pairs.chosen,
                "log_probs.rejected": pairs.rejected,
            }
            return {name: values.sum() for name, values in found.items()}


def count_pairs(batch: Batch) -> Tensor:
    """Pairs of each row: (rows,)."""
    return batch["segments"].amax(1) // 2


def answer_sums(tokens: Tensor, batch: Batch) -> Tensor:
    """Per-token values (rows, length) summed over each sequence's answer, without its prompt: (rows, sequences)."""
    return sequence_sums(tokens.masked_fill(batch["mask"][:, 1:] == PROMPT, 0), batch)


@torch.no_grad()
def reference_sums(reference: AsBefore | None, model: Decoder, batch: Batch) -> Tensor:
    """log π_ref of each answer, (rows, sequences), for the whole batch of a step."""
    assert reference is not None
    with reference(model) as before:
        parts = [answer_sums(token_log_probs(before, part), part) for part in by_rows(batch, model.device)]
    columns = max(part.shape[1] for part in parts)
    return torch.cat([pad(part, (0, columns - part.shape[1])) for part in parts])


def _pairs(sums: Tensor, batch: Batch) -> Pairs:
    counts = answer_sums(CausalLM.targets(batch).float(), batch)
    pairs = count_pairs(batch)
    width = max(1, int(pairs.max()))
    there = torch.arange(width, device=sums.device) < pairs[:, None]

    def sides(values: Tensor | None) -> tuple[Tensor, Tensor]:
        if values is None:
            values = torch.zeros(len(pairs), 2 * width, device=sums.device)
        short = 2 * width - values.shape[1]  # a batch of empty rows only
        values = pad(values, (0, short))
        return values[:, 0::2][there], values[:, 1::2][there]

    return Pairs(*sides(sums), *sides(counts), *sides(batch.get("reference")), sides(batch.get("margin"))[0])
