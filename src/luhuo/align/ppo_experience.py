"""What a batch of samples was worth: from scores to advantages and returns, once for every rollout.

    r_t = -β·(log π(a_t) - log π_ref(a_t)) + [t ends the answer]·score

(Ouyang et al. 2022, equation 2; the order of operations is that of Huang et al. 2024, "The N+ implementation details
of RLHF with PPO"): normalise the score, penalise what did not end, subtract the KL, whiten the rewards and keep their
mean, estimate advantages and returns (`gae`), whiten the advantages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from luhuo.align.advantages import batch_moments
from luhuo.align.gae import at_last_token, estimate, explained_variance, last_tokens, share_explained
from luhuo.align.group_value import Reference
from luhuo.align.kl_control import KLControl
from luhuo.align.kl_estimators import FARTHEST
from luhuo.align.log_probs import by_rows, sequence_sums, token_log_probs
from luhuo.align.ppo import whiten
from luhuo.align.rollout_rows import Judged
from luhuo.align.value_model import ActorCritic, token_values
from luhuo.train.objective import Batch, CausalLM
from luhuo.train.ranks import Ranks


@dataclass(frozen=True)
class Worth:
    """How samples are valued."""

    gamma: float = 1.0
    lam: float = 0.95
    temperature: float = 1.0
    missing_eos_penalty: float = 1.0
    """Taken off the score of an answer that did not end by itself."""
    whiten_rewards: bool = False
    normalise_scores: bool = False
    """Shift and scale all scores so that those of the first rollout have mean 0 and deviation 1."""
    critic_warmup: int = 0
    """Rollouts in which only the critic learns."""


class Experience:
    """Values rollouts; keeps the coefficient of the KL penalty and the scale of the scores.

    Tells `kl` (nats an answer), `kl_coefficient`, `objective` (score less coefficient times KL), `explained_variance`
    and `sampler_gap` (mean difference to the sampler's log-probabilities, nats). A `rollout_loader.Valuation`: with
    several processes all call it together, each with its rows; every statistic is that of all of them.
    """

    def __init__(self, model: ActorCritic, reference: Reference, control: KLControl, worth: Worth) -> None:
        self.model, self.reference, self.control, self.worth = model, reference, control, worth
        self.ranks = Ranks()
        self.rollouts = 0
        self.scale: tuple[float, float] | None = None
        """(bias, gain) of the scores: score ← (score - bias) · gain."""

    @torch.no_grad()
    def __call__(self, batch: Batch, judged: Judged) -> tuple[Batch, dict[str, float]]:
        """The batch with what `PPO` reads, and what to tell of it.

        An answer whose score is NaN counts nowhere from here on; a score of 0 is a score.
        """
        scores, ended = judged.scores, judged.ended
        batch = batch | {"mask": _scored_only(batch, scores)}
        valid, segments = CausalLM.targets(batch), batch["segments"][:, 1:]
        there = last_tokens(valid, segments, scores.shape[1]) >= 0
        old, reference, values = self._log_probs_and_values(batch)
        divergence = torch.where(valid, (old - reference).clamp(-FARTHEST, FARTHEST), 0.0)
        final = self._final(scores, ended, there)
        beta = self.control.coefficient
        rewards = at_last_token(final, valid, segments) - beta * divergence
        if self.worth.whiten_rewards:
            rewards = whiten(rewards, valid, self.ranks.sum, keep_mean=True)
        advantages, returns = estimate(rewards, values, valid, segments, gamma=self.worth.gamma, lam=self.worth.lam)
        advantages = whiten(advantages, valid, self.ranks.sum)
        episodes, score, kl = self._means(batch, scores, there, divergence)
        self.control.update(kl, round(episodes))
        gap = self.ranks.sum(
            torch.stack([(old - batch["sampled_log_probs"])[valid].abs().sum(), valid.sum()]).double()
        )
        told = {"kl": kl, "kl_coefficient": beta, "objective": score - beta * kl}
        told["sampler_gap"] = (gap[0] / gap[1].clamp(min=1)).item()
        told["explained_variance"] = share_explained(self.ranks.sum(explained_variance(values, returns, valid)))
        frozen = torch.full((len(valid),), int(self.rollouts < self.worth.critic_warmup), device=valid.device)
        self.rollouts += 1
        constants = {"old_log_probs": old, "advantages": advantages, "old_values": values, "returns": returns}
        return batch | constants | {"frozen": frozen}, told

    def state(self) -> dict[str, Any]:
        """JSON value to continue from."""
        return {"rollouts": self.rollouts, "scale": self.scale, "control": self.control.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.rollouts = int(state["rollouts"])
        self.scale = None if state["scale"] is None else (float(state["scale"][0]), float(state["scale"][1]))
        self.control.restore(state["control"])

    def _log_probs_and_values(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities now and by the reference, and values, each (rows, length)."""
        parts = list(by_rows(batch, batch["ids"].device))
        temperature = self.worth.temperature
        old = torch.cat([token_log_probs(self.model.policy, part, temperature=temperature) for part in parts])
        values = torch.cat([token_values(self.model.critic, part) for part in parts])
        with self.reference() as model:
            reference = torch.cat([token_log_probs(model, part, temperature=temperature) for part in parts])
        return old, reference, values

    def _final(self, scores: Tensor, ended: Tensor, there: Tensor) -> Tensor:
        """Scores as they enter the reward: normalised, and with a penalty for what did not end."""
        if self.worth.normalise_scores:
            if self.scale is None:
                _, mean, deviation = batch_moments(scores[there], self.ranks.sum)
                self.scale = (mean, 1 / deviation if deviation > 1e-6 else 1.0)
            bias, gain = self.scale
            scores = (scores - bias) * gain
        return torch.where(there, scores - self.worth.missing_eos_penalty * ~ended, 0.0)

    def _means(self, batch: Batch, scores: Tensor, there: Tensor, divergence: Tensor) -> tuple[float, float, float]:
        """Number of scored episodes of all processes, and their mean score and KL (nats): apart, as their sum would
        hide either."""
        kl = _columns(sequence_sums(divergence, batch), there)
        sums = torch.stack([there.sum(), torch.where(there, scores, 0.0).sum(), kl.sum()])
        count, score, kl = self.ranks.sum(sums.double()).tolist()
        return count, score / max(1.0, count), kl / max(1.0, count)


def _scored_only(batch: Batch, scores: Tensor) -> Tensor:
    """The mask of the batch without the answers that have no score."""
    scored = torch.cat([torch.zeros_like(scores[:, :1]), (~scores.isnan()).float()], 1)
    return batch["mask"] * scored.gather(1, batch["segments"].long()).to(batch["mask"].dtype)


def _columns(sums: Tensor, there: Tensor) -> Tensor:
    """Sums by sequence (rows, any) as one column for each sequence of `there`, zero where there is none."""
    wide = torch.zeros(there.shape, dtype=sums.dtype, device=sums.device)
    wide[:, : sums.shape[1]] = sums[:, : there.shape[1]]
    return torch.where(there, wide, 0.0)
