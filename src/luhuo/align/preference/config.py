"""Settings that the stages of preference optimisation share."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from luhuo.align.policy import PolicyConfig
from luhuo.core.config import Input, field
from luhuo.core.language import tr

DpoLoss = Literal["sigmoid", "robust", "hinge", "ipo", "exo", "apo_zero", "apo_down"]
"""The losses of `dpo.DPO`."""
SMOOTHED = ("sigmoid", "robust", "exo")
"""Those that know of wrong labels."""


class PreferenceConfig(PolicyConfig):
    """What the methods share. Rates suit a model of some hundred million parameters and more; see docs/preference.md
    for small ones."""

    data: list[Input] | Input = field(
        ..., "File or files of preferences; the layout is detected.", "偏好数据文件（一个或多个），自动识别格式。"
    )
    valid: Input | None = field(
        None,
        "Held-out preferences: loss, accuracy and margin are measured every `eval_every` steps.",
        "留出的偏好数据，每 eval_every 步测量损失、准确率与差距。",
    )
    epochs: float = field(1.0, "Passes over the data, unless `steps` is given.", "数据遍数（未设 steps 时）。", gt=0)
    steps: int = field(0, "Optimiser steps; 0: from `epochs`.", "优化步数；0 表示由 epochs 决定。", ge=0)
    batch: int = field(
        32, "Pairs (of kto: answers) per optimiser step.", "每个优化步的偏好对数（kto 为回答数）。", ge=1
    )
    limit: int = field(1024, "Longest prompt and answer together, in tokens.", "提示与回答合计的最大词元数。", ge=8)
    length: int = field(
        0,
        "Tokens of a packed row, which holds both sides of a pair; 0: from the data.",
        "打包行的词元数，一行须容下一对的两侧；0 为由数据决定。",
        ge=0,
    )
    overlong: Literal["truncate", "drop"] = field(
        "truncate",
        "A text over `limit`: drop whole turns from the front of the prompt, or leave it out.",
        "超过 limit 时：从提示前面整轮截去，或整条丢弃。",
    )
    learning_rate: float = field(
        1e-6,
        "Peak learning rate; adapters multiply it by their own factor.",
        "峰值学习率；适配器另有自己的倍数。",
        gt=0,
    )
    optimiser: Literal["muon", "adamw", "lion", "adafactor", "adamw8", "lion8"] = field(
        "adamw", "As in pretrain; adamw makes the small steps wanted here.", "同 pretrain；adamw 适合此处的小步更新。"
    )
    embedding_rate: float = field(
        1.0, "Learning rate of embeddings and norms, relative to the matrices'.", "嵌入与归一化的学习率倍数。", gt=0
    )
    schedule: Literal["wsd", "cosine", "linear", "inverse_sqrt", "constant"] = field(
        "linear", "Shape of the learning rate after warm-up.", "预热之后学习率的形状。"
    )
    warmup: float = field(0.1, "Share of the steps spent on warm-up.", "预热所占步数比例。", ge=0, le=1)
    weight_decay: float = field(0.0, "Decoupled weight decay of the matrices.", "矩阵参数的解耦权重衰减。", ge=0)
    spike: float = field(
        0.0,
        "A loss so many robust deviations above the usual is passed over; 0: none, since pairs differ that much.",
        "损失高出常态多少个稳健标准差即跳过；0 为不跳过，因为偏好对之间本就差异很大。",
        ge=0,
    )
    shuffle_labels: bool = field(
        False,
        "Control experiment: chosen and rejected change places in half of the pairs (kto: labels are permuted).",
        "对照实验：随机对调一半偏好对的胜负（kto 为打乱全部标签）。",
    )

    @model_validator(mode="after")
    def _whole_units(self) -> Self:
        if self.batch_warmup:
            raise ValueError(
                tr(
                    "batch_warmup cuts batches by rows, and a step here has so many pairs: leave it at 0",
                    "batch_warmup 按行切分批次，而这里每步以偏好对计数：请保持为 0",
                )
            )
        return self


class ReferenceConfig(PreferenceConfig):
    """Methods that compare with the model before training."""

    beta: float = field(
        0.1, "How strongly the model is held to the reference; larger: more.", "对参考模型的约束强度，越大越强。", gt=0
    )
    reference_log_probs: Literal["ahead", "live"] = field(
        "ahead",
        "When the reference is asked: once ahead of training, or in each step (adapter off, or a frozen copy).",
        "何时计算参考模型：训练前一次算好，或每步计算（关闭适配器，或用冻结副本）。",
    )
