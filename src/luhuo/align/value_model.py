"""The critic, and the pair of policy and critic that one trainer trains.

A critic reads what the policy reads and says at each token what reward is still to come (Ouyang et al. 2022, section
3.5). It begins as the reward model does, since what will please is close to what pleases; without one it begins as
the policy does, with a head of zeros, so that its first opinion is "nothing" and not noise of the size of the reward.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from luhuo.align.reward_model import RewardModel, with_head
from luhuo.model.base import LanguageModel
from luhuo.model.decoder import Decoder
from luhuo.model.recompute import Recompute
from luhuo.train.objective import Batch, CausalLM


def without_opinion(model: Decoder) -> RewardModel:
    """A critic over the parameters of `model` (they are the same tensors) that says 0 about everything."""
    critic = with_head(model, 0)
    assert isinstance(critic, RewardModel)
    critic.offset = 0.0
    with torch.no_grad():
        critic.score.weight.zero_()
    return critic


def token_values(critic: RewardModel, batch: Batch) -> Tensor:
    """V (rows, length) fp32 where each token of `ids[:, 1:]` is about to be chosen; zero where it is no target.

    So the value behind a sequence's end is zero: nothing comes after it.
    """
    read = {name: batch[name][:, :-1] for name in ("ids", "segments") if name in batch}
    return torch.where(CausalLM.targets(batch), critic.token_scores(read), 0.0)


class ActorCritic(LanguageModel):
    """Policy and critic as one model for the trainer: one optimiser, one checkpoint, one gradient norm.

    Only `policy` generates and is the result. Parameters that both hold (a frozen base under two adapters: see
    `share_frozen`) are there once. Dropout is off in both, whatever mode the trainer asks for: a sample must have the
    same log-probabilities when it is valued and when it is learned from, or the ratio does not begin at 1.
    """

    def __init__(self, policy: Decoder, critic: RewardModel, critic_rate: float = 1.0) -> None:
        super().__init__()
        self.policy, self.critic = policy, critic
        self.part_rates = {"critic.": critic_rate}
        self.config, self.tokenizer = policy.config, policy.tokenizer
        switch_off_dropout(self)

    @property
    def decoders(self) -> list[Decoder]:
        """Both, for what concerns both; none while they are still being put together."""
        return [module for module in self.modules() if isinstance(module, Decoder)]

    @property
    def recompute(self) -> Recompute:
        """What a training pass of either computes again in its backward pass instead of keeping it."""
        return self.policy.recompute

    @recompute.setter
    def recompute(self, wanted: Recompute) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        for decoder in self.decoders:
            decoder.recompute = wanted

    @property
    def in_blocks(self) -> bool:
        """Whether training passes over packed rows go through flex attention."""
        return self.policy.in_blocks

    @in_blocks.setter
    def in_blocks(self, wanted: bool) -> None:
        for decoder in self.decoders:
            decoder.in_blocks = wanted

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.policy.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of activations and logits."""
        return self.policy.dtype

    def compute_in(self, dtype: torch.dtype | None) -> Self:
        """Use this dtype for the activations of both; None: that of the parameters."""
        for decoder in self.decoders:
            decoder.compute_in(dtype)
        return self

    def update_balance(self, speed: float) -> None:
        """Correct the routing of experts of both."""
        for decoder in self.decoders:
            decoder.update_balance(speed)

    def expert_load(self) -> Tensor | None:
        """Share of the policy's work each expert got; None where there are no experts."""
        return self.policy.expert_load()


def share_frozen(*models: nn.Module) -> int:
    """Let frozen tensors of several models that have one name and equal values be one in memory; the bytes saved.

    Policy, reward model and critic that were trained as adapters over one base then hold that base once, wherever
    each was loaded from.
    """
    seen: dict[str, Tensor] = {}
    saved = 0
    for model in models:
        for owner, module in model.named_modules():
            for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                if tensor.requires_grad:
                    continue
                known = seen.setdefault(f"{owner}.{name}", tensor)
                alike = type(known) is type(tensor) and known.dtype == tensor.dtype and torch.equal(known, tensor)
                if alike and known is not tensor:
                    setattr(module, name, known)
                    saved += tensor.numel() * tensor.element_size()
    return saved


def switch_off_dropout(model: nn.Module) -> None:
    """No module of the model drops anything out from now on."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
