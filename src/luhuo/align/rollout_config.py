"""Settings of the stages that learn from what the policy writes."""

from __future__ import annotations

from typing import Literal

from luhuo.align.policy import PolicyConfig
from luhuo.align.rewards.config import RewardConfig
from luhuo.core.config import Input, field


class RolloutConfig(PolicyConfig):
    """What is asked, how it is sampled and scored, and how a round of samples is used.

    A round is `prompts_per_round` · `samples` answers, cut into `minibatches`, gone through `epochs` times: so there
    are minibatches · epochs optimiser steps a round.
    """

    prompts: list[Input] | Input = field(
        ...,
        "File or files of prompts: rows with `messages` or `prompt`, and what the rewards need.",
        "提示文件（一个或多个）：含 messages 或 prompt 的行，以及奖励所需的字段。",
    )
    valid: Input | None = field(
        None,
        "Held-out prompts; answered greedily and scored every `eval_every` steps.",
        "留出的提示；每 eval_every 步以贪心解码作答并评分。",
    )
    system: str = field("", "System message of conversations that have none.", "无系统消息的对话所用的系统消息。")
    rewards: list[RewardConfig] = field(
        ..., "What a completion is scored by: [{kind: check, weight: 1.0}, …].", "评分所用的奖励。", min_length=1
    )
    shuffle_rewards: bool = field(
        False,
        "Control experiment: scores change places within a round, so nothing can be learned from them.",
        "对照实验：同一轮内的得分随机互换，因而学不到东西。",
    )
    prompts_per_round: int = field(
        32, "Prompts of a round, over all processes.", "每轮的提示数（所有进程合计）。", ge=1
    )
    samples: int = field(8, "Answers to each prompt.", "每个提示的回答数。", ge=1)
    minibatches: int = field(1, "Parts of a round; an optimiser step each.", "每轮分成几份；每份一次优化步。", ge=1)
    epochs: int = field(1, "Times a round is gone through.", "每轮样本使用的遍数。", ge=1)
    temperature: float = field(
        1.0, "Of sampling; logits are divided by it in training too.", "采样温度；训练时同样除以它。", ge=0.01
    )
    max_tokens: int = field(256, "Most tokens of an answer.", "回答的最多词元数。", ge=1)
    at_once: int = field(64, "Answers that are written at the same time.", "同时生成的回答数。", ge=1)
    environment: Input | None = field(
        None,
        "Python file with what answers the policy between its turns; it is run.",
        "Python 文件，在策略各轮之间作答；会被执行。",
    )
    environment_function: str = field(
        "environment",
        "Its function: (row, messages so far) -> the next message or messages, or None at the end.",
        "其中的函数：（数据行，已有消息）-> 下一条或多条消息，结束时为 None。",
    )
    turns: int = field(1, "Most turns of the policy, with an environment.", "有环境时策略的最多轮数。", ge=1)
    learning_rate: float = field(1e-5, "Peak learning rate.", "峰值学习率。", gt=0)
    optimiser: Literal["muon", "adamw", "lion", "adafactor", "adamw8", "lion8"] = field(
        "adamw",
        "As in pretrain; muon at a hundred times the rate learns faster in models of a few million parameters.",
        "同 pretrain；对几百万参数的模型，muon 配百倍学习率学得更快。",
    )
    embedding_rate: float = field(
        1.0, "Learning rate of embeddings and norms, relative to the matrices'.", "嵌入与归一化的学习率倍数。", gt=0
    )
    epsilon: float | None = field(
        1e-5,
        "Added to the root of AdamW's second moment: a gradient that is almost nothing moves almost nothing.",
        "AdamW 二阶矩平方根所加的常数：梯度几乎为零时几乎不动。",
        gt=0,
    )
    weight_decay: float = field(0.0, "Decoupled weight decay of the matrices.", "矩阵参数的解耦权重衰减。", ge=0)
    schedule: Literal["wsd", "cosine", "linear", "inverse_sqrt", "constant"] = field(
        "constant", "Shape of the learning rate after warm-up.", "预热之后学习率的形状。"
    )
    spike: float = field(
        0.0,
        "Losses hover about 0 here: by default only one that is not finite is passed over.",
        "这里的损失在 0 附近波动：默认仅跳过非有限值。",
        ge=0,
    )
