"""Proximal policy optimisation of a language model (Schulman et al. 2017; Ouyang et al. 2022, section 3.5).

With r_t = π(a_t) / π_old(a_t), A_t the whitened advantage, V the critic and R_t the return that was seen:

    policy:  max(-A·r, -A·clip(r, 1 - ε, 1 + ε)), and where A < 0 at most -c·A   (dual clip: Ye et al. 2020)
    critic:  ½·max((V - R)², (V_old + clip(V - V_old, ±ε_v) - R)²)
    loss  =  mean(policy) + c_v · mean(critic) + γ · mean(-log π of ordinary text)           (PPO-ptx)

The means are over the tokens that policies chose, of the whole batch: every part of the loss is a sum over tokens that
the trainer divides by their global number, so neither micro-batches nor processes change it. What the samples were
worth (`ppo_experience`) is a constant here. The KL penalty is in the reward, not in the loss: its estimator
log π - log π_ref is right as a reward, and as a loss its gradient has mean zero.

InstructGPT's γ of 27.8 weighs a sum over episodes; here both are means over tokens, so γ is of the size of 0.1 to 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from luhuo.align.advantages import Total, batch_moments
from luhuo.align.kl_estimators import FARTHEST
from luhuo.align.log_probs import token_log_probs
from luhuo.align.value_model import ActorCritic, token_values
from luhuo.train.objective import Batch, CausalLM
from luhuo.train.ranks import Ranks


def policy_losses(
    log_probs: Tensor, old: Tensor, advantages: Tensor, clip: float, dual_clip: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(losses, ratios, which were clipped), each of the shape of the arguments (any).

    `dual_clip` 0: none. Only `log_probs` has a gradient.
    """
    ratio = torch.exp((log_probs - old).clamp(-FARTHEST, FARTHEST))
    free, held = -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)
    losses, clipped = torch.maximum(free, held), held > free
    if dual_clip:
        most = -advantages * dual_clip
        far = (advantages < 0) & (losses > most)
        losses, clipped = torch.where(far, most, losses), clipped | far
    return losses, ratio.detach(), clipped


def value_losses(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """(losses, which were clipped), each of the shape of the arguments (any). `clip` 0: none."""
    free = (values - returns).square()
    if not clip:
        return 0.5 * free, torch.zeros_like(free, dtype=torch.bool)
    held = (old + (values - old).clamp(-clip, clip) - returns).square()
    return 0.5 * torch.maximum(free, held), held > free


class PPO:
    """The objective of one update. Batches are `ids`, `segments`, `mask` of the samples, and of equally many rows

    - `old_log_probs`, `advantages`, `old_values`, `returns` (rows, length): constants, aligned with `ids[:, 1:]`;
    - `frozen` (rows,): 1 while only the critic learns, so that the policy does not follow advantages that a critic
      made up which knows nothing yet;
    - with PPO-ptx `text_ids`, `text_segments` (rows, text length + 1): ordinary text, as the corpus's loader gives it.
    """

    def __init__(
        self,
        *,
        clip: float = 0.2,
        dual_clip: float = 3.0,
        value_clip: float = 0.2,
        value_weight: float = 0.1,
        temperature: float = 1.0,
        pretraining: float = 0.0,
    ) -> None:
        self.clip, self.dual_clip, self.value_clip = clip, dual_clip, value_clip
        self.value_weight, self.temperature, self.pretraining = value_weight, temperature, pretraining

    def weight(self, batch: Batch) -> Tensor:
        """Number of tokens that the policy chose and that count."""
        return CausalLM.targets(batch).sum()

    def prepare(self, model: ActorCritic, batch: Batch) -> Batch:
        """The batch with `text_weight` (rows,): what turns a sum over ordinary text into a mean over all of it.

        The trainer divides by the number of sampled tokens; text has another number, counted here over the whole
        batch of all processes.
        """
        if "text_ids" not in batch:
            return batch
        ranks = Ranks()
        tokens = ranks.sum(self.weight(batch).double())
        text = ranks.sum(CausalLM.targets(_text(batch)).sum().double())
        share = (tokens / text.clamp(min=1)).float()
        return batch | {"text_weight": share.expand(len(batch["ids"])).clone()}

    def loss(self, model: ActorCritic, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Sum over the chosen tokens of everything above; the metrics are sums too, and become means."""
        valid = CausalLM.targets(batch)
        loss, metrics = self._critic(model, batch, valid)
        if not bool(batch["frozen"].any()):
            policy, more = self._policy(model, batch, valid)
            loss, metrics = loss + policy, metrics | more
            if "text_ids" in batch:
                text, more = self._text(model, batch)
                loss, metrics = loss + text, metrics | more
        return loss, valid.sum(), metrics

    def _policy(self, model: ActorCritic, batch: Batch, valid: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        found, entropy = token_log_probs(model.policy, batch, temperature=self.temperature, with_entropy=True)
        log_probs, old = found[valid], batch["old_log_probs"][valid]
        losses, ratio, clipped = policy_losses(log_probs, old, batch["advantages"][valid], self.clip, self.dual_clip)
        loss, change = losses.sum(), log_probs.detach() - old
        return loss, {
            "policy_loss": loss.detach(),
            "entropy": entropy[valid].sum(),
            "approx_kl": (ratio - 1 - change.clamp(-FARTHEST, FARTHEST)).sum(),
            "clip_share": clipped.sum(),
            "ratio": ratio.sum(),
            "ratio_variance": (ratio - 1).square().sum(),
        }

    def _critic(self, model: ActorCritic, batch: Batch, valid: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        values, old = token_values(model.critic, batch)[valid], batch["old_values"][valid]
        losses, clipped = value_losses(values, old, batch["returns"][valid], self.value_clip)
        loss = losses.sum()
        told = {"value_loss": loss.detach(), "value_clip_share": clipped.sum(), "value": values.detach().sum()}
        return self.value_weight * loss, told

    def _text(self, model: ActorCritic, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """PPO-ptx: what keeps the policy from forgetting how people write (Ouyang et al. 2022, equation 2)."""
        share = batch["text_weight"][0]
        loss = share * CausalLM().loss(model.policy, _text(batch))[0]
        return self.pretraining * loss, {"text_loss": loss.detach()}


def _text(batch: Batch) -> Batch:
    """The ordinary text of a batch, as an objective of text reads it."""
    return {"ids": batch["text_ids"], "segments": batch["text_segments"]}


def whiten(values: Tensor, valid: Tensor, total: Total, *, keep_mean: bool = False) -> Tensor:
    """The valid values scaled to variance 1, and to mean 0 unless it is kept; zero where not valid.

    Over all processes, and over everything that was sampled together, not over a micro-batch: a statistic of a part
    would depend on how the batch is cut. Advantages lose their mean; rewards keep it, since which sign a reward has is
    what the critic learns (Ziegler et al. 2019; Huang et al. 2023, "The N implementation details of RLHF with PPO").
    """
    _, mean, deviation = batch_moments(values[valid], total)
    scaled = (values - mean) / (deviation + 1e-8) + (mean if keep_mean else 0.0)
    return torch.where(valid, scaled, 0.0).float()
