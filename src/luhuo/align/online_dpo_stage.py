"""The stage `online-dpo`: preferences among what the policy itself writes while it learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import model_validator

from luhuo.align.preference.config import SMOOTHED, DpoLoss
from luhuo.align.rollout_stage import RolloutStage
from luhuo.core.artifact import Workspace
from luhuo.core.config import field
from luhuo.core.language import tr

if TYPE_CHECKING:
    import torch


class OnlineDpoStage(RolloutStage):
    """Online DPO: in each step the policy answers, rewards judge, and the best answer is preferred to the worst."""

    samples: int = field(
        2, "Answers to each prompt; the best and the worst count.", "每个提示的回答数；取最好与最差。", ge=2
    )
    beta: float = field(
        0.1, "How strongly the model is held to the reference; larger: more.", "对参考模型的约束强度，越大越强。", gt=0
    )
    loss: DpoLoss = field("sigmoid", "As in stage dpo.", "同 dpo 阶段。")
    label_smoothing: float = field(0.0, "Share of judgements taken to be wrong.", "认为判错的比例。", ge=0, lt=0.5)
    sft_weight: float = field(0.0, "Weight of the chosen answers' own loss.", "所选回答自身损失的权重。", ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.minibatches != 1 or self.epochs != 1:
            raise ValueError(
                tr(
                    "online-dpo takes one step a round: minibatches and epochs must be 1",
                    "online-dpo 每轮只更新一步：minibatches 与 epochs 须为 1",
                )
            )
        if self.label_smoothing and self.loss not in SMOOTHED:
            raise ValueError(f"label_smoothing has no effect on loss={self.loss}: it goes with {', '.join(SMOOTHED)}")
        return self

    def _run(self, out: Workspace, device: torch.device) -> None:
        from luhuo.align.judge import judge, shuffled
        from luhuo.align.online_dpo import OnlinePairLoader
        from luhuo.align.policy import open_policy
        from luhuo.align.preference.dpo import DPO
        from luhuo.align.preference.reference import live_of
        from luhuo.align.prompts import PromptOrder
        from luhuo.align.rewards import Rewards
        from luhuo.align.rollout_run import held_out, open_prompts, open_rollout, tokenizer_of
        from luhuo.train.parallel import spread
        from luhuo.train.trainer import Trainer

        model = open_policy(self, str(device), self.seed)
        smoothing, reference = self.label_smoothing, live_of(model)
        objective = DPO(self.loss, beta=self.beta, label_smoothing=smoothing, sft=self.sft_weight, reference=reference)
        model = spread(model, self.parallel)
        prompts = open_prompts(self, self.prompts, model)
        score = judge(Rewards(self.rewards), self.max_tokens)
        loader = OnlinePairLoader(
            open_rollout(self, model, prompts),
            PromptOrder(prompts, self.seed),
            shuffled(score, self.seed) if self.shuffle_rewards else score,
            batch=self.prompts_per_round,
            seed=self.seed,
            pad_id=tokenizer_of(model, self.model).pad_id,
        )
        config = self.trainer_config(prefetch=0)
        evaluate = held_out(self, model, score)
        trainer = Trainer(model, objective, loader, config, out, evaluate=evaluate, title="online-dpo")
        told = ("loss", "reward", "accuracy", "rewards.margin", "length", "truncated")
        self._finish(trainer, model, out, told, ("valid.",))
