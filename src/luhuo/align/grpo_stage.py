"""The stage `grpo`: reinforcement learning with groups of samples and no critic, in all its variants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from luhuo.align.methods import METHODS, Method
from luhuo.align.rewards.config import OverlongReward
from luhuo.align.rollout_stage import RolloutStage
from luhuo.core.artifact import Workspace
from luhuo.core.config import field
from luhuo.core.language import tr

if TYPE_CHECKING:
    import torch

    from luhuo.align.group_value import GroupValue, Reference
    from luhuo.align.policy_gradient import PolicyGradient
    from luhuo.model.decoder import Decoder


class GrpoStage(RolloutStage):
    """Reinforcement learning from rewards: the policy answers each prompt several times and learns from the better
    answers."""

    method: Literal["grpo", "dr_grpo", "dapo", "gspo", "rloo", "reinforce++", "reinforce++-baseline"] = field(
        "grpo",
        "How samples of a prompt are compared and what the loss is divided by; see docs/grpo.md.",
        "样本如何比较、损失如何归一；见 docs/grpo.zh.md。",
    )
    clip_low: float | None = field(
        None,
        "Most the ratio may fall below 1; null: the method's.",
        "概率比可低于 1 的幅度；null：随方法。",
        gt=0,
        lt=1,
    )
    clip_high: float | None = field(
        None, "Most it may rise above 1; null: the method's.", "可高于 1 的幅度；null：随方法。", gt=0
    )
    dual_clip: float = field(
        0.0,
        "Bound of the loss where the advantage is negative, in advantages; 0: none.",
        "优势为负时损失的上限（以优势为单位）；0 为不设。",
        ge=0,
    )
    kl: float = field(
        0.0,
        "Weight of the distance to the starting model; 0: none is kept.",
        "与起始模型距离的权重；0 为不保留参考模型。",
        ge=0,
    )
    kl_estimator: Literal["k1", "k2", "k3", "k3_plain"] = field(
        "k3",
        "How the distance is estimated; the gradient is right for all but k3_plain, which is the first paper's.",
        "距离的估计方式；除 k3_plain（最初论文的写法）外，梯度均正确。",
    )
    deviation_of: Literal["group", "batch"] = field(
        "group",
        "Whose deviation standardised advantages are divided by.",
        "标准化优势所除的标准差：组内或整批。",
    )
    attempts: int | None = field(
        None,
        "Draws for prompts whose answers differ in score; 1: all groups stay; null: the method's.",
        "为得到得分有差异的组最多抽取几次；1：全部保留；null：随方法。",
        ge=1,
    )
    mask_truncated: bool | None = field(
        None,
        "Answers that were cut off are not learned from; null: the method's.",
        "被截断的回答不参与学习；null：随方法。",
    )
    overlong: int = field(
        0,
        "Tokens before max_tokens over which answers lose up to 1 of their score (DAPO's soft punishment); 0: none.",
        "max_tokens 之前多少词元内逐渐扣分，最多扣 1（DAPO 的软惩罚）；0 为不用。",
        ge=0,
    )
    old: Literal["trainer", "sampler"] = field(
        "trainer",
        "Whose log-probabilities stand for the policy that sampled.",
        "以谁计算的对数概率代表采样时的策略。",
    )
    correction: Literal["none", "token", "sequence", "mask"] = field(
        "none",
        "Against a sampler that computes other log-probabilities than the trainer: truncated importance sampling.",
        "采样与训练的对数概率不一致时的校正：截断重要性采样。",
    )
    correction_cap: float = field(2.0, "Largest factor of the correction.", "校正因子的上限。", gt=1)

    @property
    def chosen(self) -> Method:
        """What the method decides."""
        return METHODS[self.method]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.samples < self.chosen.least_samples:
            raise ValueError(
                tr(
                    f"samples = {self.samples}: {self.method} compares the answers to a prompt with one another; one "
                    "alone has advantage 0 and teaches nothing. Use samples of at least 2, or method reinforce++",
                    f"samples = {self.samples}：{self.method} 需要比较同一提示的多个回答；只有一个时优势恒为 0，"
                    "学不到东西。请令 samples 至少为 2，或使用 method reinforce++",
                )
            )
        if self.attempts is not None and self.attempts > 1 and self.samples < 2:
            raise ValueError(tr("attempts needs samples of at least 2", "attempts 要求 samples 至少为 2"))
        if self.old == "sampler" and self.correction != "none":
            raise ValueError(
                tr(
                    "with old = sampler the ratio corrects for the sampler already: leave correction at none",
                    "old = sampler 时概率比已包含校正：correction 应为 none",
                )
            )
        if self.batch_warmup:
            raise ValueError(tr("a round has one size: batch_warmup must be 0", "每轮大小固定：batch_warmup 须为 0"))
        return self

    def _run(self, out: Workspace, device: torch.device) -> None:
        from luhuo.align.judge import judge, shuffled
        from luhuo.align.policy import open_policy
        from luhuo.align.prompts import PromptOrder
        from luhuo.align.rewards import Rewards
        from luhuo.align.rollout_loader import Plan, RolloutLoader
        from luhuo.align.rollout_run import held_out, open_prompts, open_rollout, reference_of, tokenizer_of
        from luhuo.train.parallel import spread
        from luhuo.train.trainer import Trainer

        model = open_policy(self, str(device), self.seed)
        reference = reference_of(model) if self.kl else None
        model = spread(model, self.parallel)
        prompts = open_prompts(self, self.prompts, model)
        rewards = Rewards([*self.rewards, *([OverlongReward(margin=self.overlong)] if self.overlong else [])])
        score = judge(rewards, self.max_tokens)
        attempts = self.chosen.attempts if self.attempts is None else self.attempts
        plan = Plan(self.prompts_per_round, self.minibatches, self.epochs, attempts)
        loader = RolloutLoader(
            open_rollout(self, model, prompts),
            PromptOrder(prompts, self.seed),
            shuffled(score, self.seed) if self.shuffle_rewards else score,
            self._value(model, reference, plan.updates),
            plan,
            seed=self.seed,
            folder=out.path / ".checkpoint",
            device=device,
            pad_id=tokenizer_of(model, self.model).pad_id,
            share=self._shares(model),
        )
        config = self.trainer_config(prefetch=0)
        evaluate = held_out(self, model, score)
        trainer = Trainer(model, self._objective(), loader, config, out, evaluate=evaluate, title="grpo")
        told = ("reward", "entropy", "length", "truncated", "zero_variance", "tokens_per_s")
        self._finish(trainer, model, out, told, ("valid.", "reward."))

    def _shares(self, model: Decoder) -> bool:
        """Whether answers share their prompt: on a CPU, where it is tokens that cost. Experts are balanced over all
        tokens, and a GPU's attention is made for rows of separate texts."""
        from luhuo.model.masks import takes_trunks

        plain = self.compile in ("auto", "none") and model.config.moe is None
        return plain and model.device.type == "cpu" and takes_trunks(model.config)

    def _value(self, model: Decoder, reference: Reference | None, updates: int) -> GroupValue:
        from luhuo.align.group_value import GroupValue

        return GroupValue(
            model,
            self.chosen,
            temperature=self.temperature,
            reference=reference,
            kl=self.kl,
            recompute=updates > 1,
            trust_sampler=self.old == "sampler",
            deviation_of=self.deviation_of,
            mask_truncated=self.chosen.mask_truncated if self.mask_truncated is None else self.mask_truncated,
        )

    def _objective(self) -> PolicyGradient:
        from luhuo.align.policy_gradient import PolicyGradient

        return PolicyGradient(
            self.chosen,
            clip_low=self.chosen.clip_low if self.clip_low is None else self.clip_low,
            clip_high=self.chosen.clip_high if self.clip_high is None else self.clip_high,
            dual_clip=self.dual_clip,
            temperature=self.temperature,
            kl=self.kl,
            kl_estimator=self.kl_estimator,
            constant=self.max_tokens * self.turns,
            correction=self.correction,
            correction_cap=self.correction_cap,
        )
