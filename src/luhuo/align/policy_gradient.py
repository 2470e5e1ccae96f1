"""The clipped policy gradient on groups of samples: the objective of all methods in `methods.py`.

For one target token with advantage A and ratio ρ = exp(log π - log π_old):

    loss = -min(ρ·A, clip(ρ, 1 - ε_low, 1 + ε_high)·A) + β·KL

At the first update of a round ρ is 1 and the advantages of a group sum to zero, so the loss is about 0. That is right:
the gradient is not. Clipping acts from the second update on.

What a whole sequence shares is computed inside of one row, and all else is a constant of the batch, so that the sum
over micro-batches and processes is the same however the batch is cut; the trainer divides it by the global weight.

Where all answers of a group earned the same, their advantages are 0, and without a KL term in the loss so are their
gradients: rows that hold nothing else count in the weight, but are not computed (`prepare`). Late in a run these are
most rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from luhuo.align.kl_estimators import FARTHEST, Estimator, k3, kl_terms
from luhuo.align.log_probs import sequence_counts, sequence_sums, token_log_probs
from luhuo.align.methods import METHODS, Method
from luhuo.model.decoder import Decoder
from luhuo.train.objective import Batch, CausalLM
from luhuo.train.ranks import Ranks

Correction = Literal["none", "token", "sequence", "mask"]


@dataclass(frozen=True)
class PolicyGradient:
    """The objective. Batches are `ids`, `segments`, `mask` (rows, length + 1) and, aligned with `ids[:, 1:]`,
    (rows, length) each:

    - `advantages`;
    - `sampled_log_probs`: what the sampler took the log-probabilities for;
    - `old_log_probs`, if samples are used for more than one update. Without them π_old is π at this very moment;
    - `reference_log_probs`, if `kl` is not 0 and the distance counts in the loss.
    """

    method: Method = METHODS["grpo"]
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float = 0.0
    """Where A < 0 the loss is at most this many times -A, else one token that the policy has come to like could
    outweigh all others (Ye et al. 2020); 0: no bound."""
    temperature: float = 1.0
    """That of sampling: π is the distribution that was sampled from."""
    kl: float = 0.0
    """β, where the method has the KL in its loss."""
    kl_estimator: Estimator = "k3"
    constant: float = 1.0
    """Tokens that a sequence's sum is divided by, where the normaliser is constant."""
    correction: Correction = "none"
    """Against a sampler that computes other log-probabilities than the trainer with equal weights (another engine,
    another number format): the loss is multiplied by π_old/μ, μ the sampler, at most `correction_cap`. "token": of
    each token; "sequence": of its whole sequence (truncated importance sampling; Yao et al. 2025); "mask": not
    multiplied, but left out, where the sequence's is beyond the cap or its inverse."""
    correction_cap: float = 2.0

    def prepare(self, model: Decoder, batch: Batch) -> Batch:
        """The rows that can move a weight, with `counted` (rows,), what the loss is divided by for them and for those
        left out, and `spread` (rows,), by which metrics are multiplied so that they are means over these rows.

        A model with experts keeps all rows: which experts they choose is balanced over all tokens.
        """
        counted = self._counted(batch)
        moving = batch["advantages"].ne(0).any(1)
        if (self.kl and self.method.kl_in == "loss") or model.config.moe is not None:
            moving = torch.ones_like(moving)
        if not moving.any():
            moving[0] = True  # a process has a pass to make, whatever the others have
        here = counted[moving]
        whole, left = Ranks().sum(torch.stack([counted.sum(), here.sum()])).tolist()
        here[0] += counted.sum() - here.sum()
        told = {"counted": here, "spread": torch.full_like(here, whole / max(left, 1.0))}
        return {name: tensor[moving] for name, tensor in batch.items()} | told

    def weight(self, batch: Batch) -> Tensor:
        """Number of targets, or of sequences that have some."""
        return batch["counted"].sum() if "counted" in batch else self._counted(batch).sum()

    def _counted(self, batch: Batch) -> Tensor:
        """What each row adds to the weight, (rows,) fp32."""
        if self.method.normaliser == "tokens":
            return CausalLM.targets(batch).sum(1).float()
        return (sequence_counts(batch) > 0).sum(1).float()

    def loss(self, model: Decoder, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Sum of the losses; metrics are means over tokens, or over sequences of their means, as the weight is."""
        valid = CausalLM.targets(batch)
        log_probs, entropy = token_log_probs(model, batch, temperature=self.temperature, with_entropy=True)
        old = batch["old_log_probs"] if "old_log_probs" in batch else log_probs.detach()
        change = torch.where(valid, log_probs - old, 0.0)
        counts = sequence_counts(batch)
        each = self._share(batch, counts, valid, mean=True)
        ratio = self._ratio(change, batch, counts)
        losses, clipped = self._surrogate(ratio, batch["advantages"])
        losses = losses * self._corrections(old, batch, counts)
        if self.method.ratio == "product":
            # One term a sequence: every token carries an equal part of it.
            loss = (losses * each).sum()
        else:
            if self.kl and self.method.kl_in == "loss":
                token_ratio = change.detach().clamp(-FARTHEST, FARTHEST).exp()
                terms = kl_terms(log_probs, batch["reference_log_probs"], token_ratio, self.kl_estimator)
                losses = losses + self.kl * terms
            loss = (losses * self._share(batch, counts, valid, mean=False)).sum()
        with torch.no_grad():
            metrics = self._metrics(batch, log_probs.detach(), old, change, ratio, clipped) | {"entropy": entropy}
            if "spread" in batch:
                each = each * batch["spread"][:, None]
            return loss, self.weight(batch), {name: (value * each).sum() for name, value in metrics.items()}

    def _ratio(self, change: Tensor, batch: Batch, counts: Tensor) -> Tensor:
        """ρ (rows, length). Of sequences every token carries the same one; with "sequence" it has the gradient of its
        own token (Zheng et al. 2025, section 4.3), with "product" that of all."""
        if self.method.ratio == "token":
            return change.clamp(-FARTHEST, FARTHEST).exp()
        sums = sequence_sums(change, batch)
        if self.method.ratio == "product":
            return _spread(sums.clamp(-FARTHEST, FARTHEST).exp(), batch, 1.0)
        means = _spread(sums / counts.clamp(min=1), batch, 0.0).detach()
        return (means + change - change.detach()).clamp(-FARTHEST, FARTHEST).exp()

    def _surrogate(self, ratio: Tensor, advantages: Tensor) -> tuple[Tensor, Tensor]:
        """(losses, which were clipped), each (rows, length)."""
        free = -advantages * ratio
        held = -advantages * ratio.clamp(1 - self.clip_low, 1 + self.clip_high)
        losses, clipped = torch.maximum(free, held), held > free
        if self.dual_clip:
            most = -advantages * self.dual_clip
            far = (advantages < 0) & (losses > most)
            losses, clipped = torch.where(far, most, losses), clipped | far
        return losses, clipped

    def _corrections(self, old: Tensor, batch: Batch, counts: Tensor) -> Tensor:
        """What the losses are multiplied by, (rows, length); 1 without a correction."""
        if self.correction == "none":
            return torch.ones_like(old)
        gap = torch.where(CausalLM.targets(batch), old - batch["sampled_log_probs"], 0.0)
        if self.correction == "token":
            return gap.clamp(-FARTHEST, FARTHEST).exp().clamp(max=self.correction_cap)
        weights = sequence_sums(gap, batch).clamp(-FARTHEST, FARTHEST).exp()
        if self.correction == "sequence":
            return _spread(weights.clamp(max=self.correction_cap), batch, 1.0)
        inside = (weights <= self.correction_cap) & (weights >= 1 / self.correction_cap)
        return _spread(inside.float(), batch, 1.0)

    def _share(self, batch: Batch, counts: Tensor, valid: Tensor, *, mean: bool) -> Tensor:
        """What each token's number counts, (rows, length), 0 where it is no target. `mean`: so that the sum over the
        weight is a mean also where the loss is divided by a constant."""
        if self.method.normaliser == "tokens":
            return valid.float()
        if self.method.normaliser == "constant" and not mean:
            return valid / self.constant
        return valid / _spread(counts, batch, 1.0).clamp(min=1)

    def _metrics(
        self, batch: Batch, log_probs: Tensor, old: Tensor, change: Tensor, ratio: Tensor, clipped: Tensor
    ) -> dict[str, Tensor]:
        """Numbers a token, (rows, length) each."""
        change = change.detach().clamp(-FARTHEST, FARTHEST)
        found = {
            "clip_share": clipped.float(),
            "ratio": ratio.detach(),
            "ratio_variance": (ratio.detach() - 1).square(),
            "approx_kl": torch.exp(change) - 1 - change,
            "sampler_gap": (old - batch["sampled_log_probs"]).abs(),
        }
        if "reference_log_probs" in batch:
            distance = (log_probs - batch["reference_log_probs"]).clamp(-FARTHEST, FARTHEST)
            found |= {"kl": distance, "kl_k3": k3(distance)}
        return found


def _spread(values: Tensor, batch: Batch, padding: float) -> Tensor:
    """Numbers of sequences (rows, sequences) at each token of theirs: (rows, length); `padding` elsewhere."""
    if "segments" not in batch:
        return values.expand(-1, batch["ids"].shape[1] - 1)
    segments = batch["segments"][:, 1:].long()
    return torch.where(segments > 0, values.gather(1, (segments - 1).clamp(min=0)), padding)
