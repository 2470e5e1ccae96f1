"""What a round of samples is worth to a method without a critic: one advantage a sample, or one a token."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from luhuo.align.advantages import centred, leave_one_out, over_deviation, standardised, to_go, whitened
from luhuo.align.kl_estimators import FARTHEST
from luhuo.align.log_probs import by_rows, sequence_sums, token_log_probs
from luhuo.align.methods import Method
from luhuo.align.rollout_rows import Judged
from luhuo.model.decoder import Decoder
from luhuo.train.objective import Batch, CausalLM
from luhuo.train.ranks import Ranks

Reference = Callable[[], AbstractContextManager[Decoder]]
"""A context in which its model computes what the policy computed before training."""


class GroupValue:
    """The `Valuation` of `methods.py`.

    `kl` is β; with 0 no reference is asked. `recompute`: samples are used for more than one update, so that the
    log-probabilities of now must be kept; with `trust_sampler` those of the sampler are taken for them.
    `deviation_of`: "batch" divides centred advantages by the deviation of all instead of that of the group.
    """

    def __init__(
        self,
        model: Decoder,
        method: Method,
        *,
        temperature: float,
        reference: Reference | None = None,
        kl: float = 0.0,
        recompute: bool = False,
        trust_sampler: bool = False,
        deviation_of: str = "group",
        mask_truncated: bool = False,
    ) -> None:
        self.model, self.method, self.temperature, self.reference = model, method, temperature, reference
        self.kl = kl
        self.recompute, self.trust_sampler = recompute, trust_sampler
        self.deviation_of, self.mask_truncated = deviation_of, mask_truncated
        self.ranks = Ranks()

    @torch.no_grad()
    def __call__(self, batch: Batch, judged: Judged) -> tuple[Batch, dict[str, float]]:
        """The batch with `advantages` and, as needed, `old_log_probs` and `reference_log_probs` (rows, length)."""
        batch = batch | {"mask": self._mask(batch, judged)}
        valid = CausalLM.targets(batch)
        in_reward = bool(self.kl) and self.method.kl_in == "reward"
        if self.trust_sampler:
            batch["old_log_probs"] = batch["sampled_log_probs"]
        elif self.recompute or in_reward:
            batch["old_log_probs"] = self._scored(self.model, batch)
        if self.kl:
            assert self.reference is not None
            with self.reference() as model:
                batch["reference_log_probs"] = self._scored(model, batch)
        cost = torch.zeros_like(valid, dtype=torch.float32)
        if in_reward:
            distance = (batch["old_log_probs"] - batch["reference_log_probs"]).clamp(-FARTHEST, FARTHEST)
            cost = torch.where(valid, self.kl * distance, 0.0)
        return batch | {"advantages": self._advantages(batch, judged, cost, valid)}, {}

    def state(self) -> dict[str, Any]:
        """Nothing is kept from round to round."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing is taken back."""

    def _mask(self, batch: Batch, judged: Judged) -> Tensor:
        """Targets of samples that could be scored and, with `mask_truncated`, ended themselves."""
        left_out = judged.scores.isnan()
        if self.mask_truncated:
            left_out = left_out | ~judged.ended
        return torch.where(_at_tokens(left_out, batch["segments"]), 0, batch["mask"])

    def _scored(self, model: Decoder, batch: Batch) -> Tensor:
        """Log-probabilities (rows, length) of the targets by the weights of now."""
        given = {name: batch[name] for name in ("ids", "segments", "mask", "trunks") if name in batch}
        parts = by_rows(given, given["ids"].device)
        return torch.cat([token_log_probs(model, part, temperature=self.temperature) for part in parts])

    def _advantages(self, batch: Batch, judged: Judged, cost: Tensor, valid: Tensor) -> Tensor:
        """(rows, length), 0 where there is no target. `cost` (rows, length): what is taken off for each token."""
        there = judged.groups >= 0
        # On the CPU, where sums have an order.
        groups, scores = judged.groups[there].cpu(), judged.scores[there].double().cpu()
        if self.method.ratio == "product":  # the sequence is one action: it pays for all its tokens at once
            scores = scores - sequence_sums(cost, batch)[there].cpu()
        table = torch.zeros(there.shape, dtype=torch.float32, device=there.device)
        table[there] = self._compared(scores, groups).nan_to_num(0.0).float().to(there.device)
        advantages = _at_tokens(table, batch["segments"])[:, 1:]
        if self.method.ratio != "product":
            advantages = advantages - to_go(cost, batch["segments"][:, 1:])
        if self.method.whiten:
            advantages = advantages.masked_scatter(valid, whitened(advantages[valid], self.ranks.sum).float())
        return torch.where(valid, advantages, 0.0)

    def _total(self, value: Tensor) -> Tensor:
        """The sum of a small tensor of the CPU over all processes."""
        return self.ranks.sum(value.to(self.ranks.mesh.kind)).cpu()

    def _compared(self, scores: Tensor, groups: Tensor) -> Tensor:
        """Scores (n,) against the baseline of their groups."""
        if self.method.baseline == "none":
            return scores
        if self.method.baseline == "leave_one_out":
            return leave_one_out(scores, groups)
        if self.method.baseline == "centred":
            return centred(scores, groups)
        if self.deviation_of == "batch":
            return over_deviation(centred(scores, groups), self._total)
        return standardised(scores, groups)


def _at_tokens(values: Tensor, segments: Tensor) -> Tensor:
    """Values of sequences (rows, sequences) at each of their tokens, zero in padding."""
    found = values.gather(1, (segments.long() - 1).clamp(min=0))
    return torch.where(segments > 0, found, torch.zeros_like(found))
