"""The stage `ppo`: reinforcement learning with a critic, the third step of InstructGPT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from luhuo.align.rewards.config import RewardConfig
from luhuo.align.rollout_stage import RolloutStage
from luhuo.core.artifact import Workspace
from luhuo.core.config import Input, field
from luhuo.core.language import tr

if TYPE_CHECKING:
    import torch

    from luhuo.align.ppo import PPO
    from luhuo.align.ppo_experience import Worth


class PpoStage(RolloutStage):
    """Proximal policy optimisation: the policy answers, a reward model or rules score, a critic says what was to be
    expected, and the policy moves towards what was better, not far from where it began."""

    reward_model: Input | None = field(
        None,
        "Model whose score is the reward; the critic begins as it does. Rewards, if any, are added.",
        "以其得分为奖励的模型；价值网络也由它初始化。若另有 rewards，则相加。",
    )
    rewards: list[RewardConfig] = field(
        [], "Rule rewards: [{kind: check, weight: 1.0}, …].", "规则奖励：[{kind: check, weight: 1.0}, …]。"
    )
    prompts_per_round: int = field(
        64, "Prompts of a round, over all processes.", "每轮的提示数（所有进程合计）。", ge=1
    )
    samples: int = field(
        1, "Answers to each prompt: a critic needs no group.", "每个提示的回答数：有价值网络则无需成组。", ge=1
    )
    epochs: int = field(4, "Times a round is gone through.", "每轮样本使用的遍数。", ge=1)
    schedule: Literal["wsd", "cosine", "linear", "inverse_sqrt", "constant"] = field(
        "linear", "Shape of the learning rate after warm-up.", "预热之后学习率的形状。"
    )
    critic_rate: float = field(
        1.0, "Learning rate of the critic, relative to the policy's.", "价值网络的学习率与策略学习率之比。", gt=0
    )
    critic_warmup: int = field(
        0, "Rounds at the start in which only the critic learns.", "起初只训练价值网络的轮数。", ge=0
    )
    clip_ratio: float = field(
        0.2, "How far the ratio of new to old policy may go.", "新旧策略概率比的裁剪幅度。", gt=0, lt=1
    )
    dual_clip: float = field(
        3.0,
        "Bound of the loss where the advantage is negative, in advantages; 0: none.",
        "优势为负时损失的上限（以优势为单位）；0 为不设。",
        ge=0,
    )
    value_clip: float = field(
        0.2,
        "How far a value may move within a round; 0: as far as it likes.",
        "一轮内价值可移动的幅度；0 为不限。",
        ge=0,
    )
    value_weight: float = field(0.1, "Weight of the critic's loss.", "价值损失的权重。", gt=0)
    gamma: float = field(1.0, "Discount of later rewards, a token.", "每词元的折扣。", gt=0, le=1)
    lam: float = field(
        0.95,
        "Trust in what was seen (1) against what the critic says (0) in the advantages.",
        "优势估计中相信实际回报（1）或价值网络（0）的程度。",
        ge=0,
        le=1,
    )
    kl: float = field(
        0.05,
        "Coefficient of the log-ratio to the starting model in the reward.",
        "奖励中对起始模型对数概率比的系数。",
        ge=0,
    )
    kl_target: float | None = field(
        None,
        "Nats an answer at which the coefficient is held by adapting it; null: it is fixed.",
        "每条回答的目标 KL（奈特），系数随之自适应；null 为固定系数。",
        gt=0,
    )
    kl_horizon: float = field(
        10_000.0, "Answers over which it adapts: the more, the slower.", "自适应的时间尺度（回答数），越大越慢。", gt=0
    )
    missing_eos_penalty: float = field(
        1.0, "Taken off the score of an answer that was cut off.", "回答被截断时所扣的分。", ge=0
    )
    whiten_rewards: bool = field(
        False, "Scale a round's rewards to variance 1; their mean stays.", "把每轮奖励缩放为方差 1，均值不变。"
    )
    normalise_scores: bool = field(
        False,
        "Shift and scale all scores so that the first round's have mean 0 and deviation 1.",
        "平移并缩放得分，使首轮得分均值为 0、标准差为 1，此后不变。",
    )
    pretraining: Input | None = field(
        None,
        "Shards of ordinary text to go on learning from (PPO-ptx).",
        "继续学习的普通文本分片（PPO-ptx）。",
    )
    pretraining_weight: float = field(
        0.5, "Weight of the text's loss, a mean over its tokens.", "文本损失（按词元平均）的权重。", gt=0
    )
    pretraining_length: int = field(256, "Tokens of a row of text.", "文本每行的词元数。", ge=8)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.reward_model is None and not self.rewards:
            raise ValueError(tr("give reward_model, rewards or both", "请给出 reward_model、rewards 或两者"))
        if self.batch_warmup:
            raise ValueError(tr("a round has one size: batch_warmup must be 0", "每轮大小固定：batch_warmup 须为 0"))
        return self

    @model_validator(mode="after")
    def _whole_copies(self) -> Self:
        divided = [name for name in ("fsdp", "tp", "ep") if getattr(self.parallel, name) not in (0, 1)]
        if divided:
            names = ", ".join(f"parallel.{name}" for name in divided)
            raise ValueError(
                tr(
                    f"policy and critic are kept whole in each process: {names} must be 1, use dp",
                    f"策略与价值网络在每个进程中均为完整副本：{names} 须为 1，请用 dp",
                )
            )
        return self

    def _run(self, out: Workspace, device: torch.device) -> None:
        from luhuo.align.ppo_run import open_run
        from luhuo.train.samples import sampler
        from luhuo.train.trainer import Trainer

        model, loader, evaluate = open_run(self, out.path / ".checkpoint", device)
        config = self.trainer_config(prefetch=0)
        written = sampler(config, self.seed, chat=True)
        sample = None if written is None else lambda pair: written(pair.policy)
        trainer = Trainer(model, self.objective(), loader, config, out, evaluate=evaluate, sample=sample, title="ppo")  # type: ignore[arg-type]
        told = ("reward", "kl", "kl_coefficient", "explained_variance", "entropy", "eos", "length")
        self._finish(trainer, model.policy, out, told, ("valid.", "reward."))

    def objective(self) -> PPO:
        """The loss of an update."""
        from luhuo.align.ppo import PPO

        return PPO(
            clip=self.clip_ratio,
            dual_clip=self.dual_clip,
            value_clip=self.value_clip,
            value_weight=self.value_weight,
            temperature=self.temperature,
            pretraining=self.pretraining_weight if self.pretraining else 0.0,
        )

    def worth(self) -> Worth:
        """How samples are valued."""
        from luhuo.align.ppo_experience import Worth

        return Worth(
            gamma=self.gamma,
            lam=self.lam,
            temperature=self.temperature,
            missing_eos_penalty=self.missing_eos_penalty,
            whiten_rewards=self.whiten_rewards,
            normalise_scores=self.normalise_scores,
            critic_warmup=self.critic_warmup,
        )

    def disk_bytes(self) -> int:
        """The model, and two checkpoints of policy and critic with the optimiser's state."""
        from pathlib import Path

        folder = Path(self.model)
        weights = sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else 20_000_000
        return 16 * weights + 10_000_000
