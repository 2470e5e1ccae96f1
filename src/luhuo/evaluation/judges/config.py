"""Who judges, and by which rubric."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from luhuo.align.ai_feedback.config import ResponderConfig
from luhuo.core.config import Config, Input, field
from luhuo.core.language import tr

Rule = Literal["longer", "shorter", "first", "overlap", "refusal"]


class JudgeModel(ResponderConfig):
    """A model that judges: here or behind an endpoint, without chance unless it is asked for."""

    temperature: float = field(0.0, "Of sampling; 0: the likeliest reply.", "采样温度；0 为最可能的回复。", ge=0)
    max_tokens: int = field(1024, "Most tokens of a reply.", "回复的最多词元数。", ge=1)


class JudgeConfig(Config):
    """One judge: a rule, a reward model, or a model that is asked by a rubric."""

    name: str = field(
        "", "What reports call it; empty: the model's or the rule's name.", "报告中的名称；空：模型或规则名。"
    )
    rule: Rule | None = field(
        None,
        "A rule that reads no meaning: longer, shorter, first, overlap (with the reference, else the question), "
        "refusal (phrases; for labels).",
        "不理解内容的规则：longer 更长、shorter 更短、first 先出现、overlap 与参考（或问题）的重合、"
        "refusal 拒答用语（用于标签）。",
    )
    reward_model: Input | None = field(None, "A trained reward model.", "训练好的奖励模型。")
    responder: JudgeModel | None = field(
        None,
        "A language model: {model: …} or {endpoint: {url, model}}.",
        "语言模型：{model: …} 或 {endpoint: {url, model}}。",
    )
    rubric: Input | None = field(
        None,
        "YAML file of a rubric, or MT-Bench's judge_prompts.jsonl; none: the one that comes with Luhuo.",
        "评分标准的 YAML 文件，或 MT-Bench 的 judge_prompts.jsonl；不设则用自带的。",
    )
    price_in: float = field(0.0, "Price of a million tokens read.", "每百万输入词元的价格。", ge=0)
    price_out: float = field(0.0, "Price of a million tokens written.", "每百万输出词元的价格。", ge=0)
    dtype: str = field("fp32", "Number format of a reward model.", "奖励模型的数值格式。")
    device: str = field("auto", "Device of a reward model.", "奖励模型的设备。")

    @property
    def label(self) -> str:
        """Its name in reports."""
        return self.name or self.rule or (self.responder.label if self.responder else str(self.reward_model))

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(one is not None for one in (self.rule, self.reward_model, self.responder)) != 1:
            raise ValueError(
                tr("give one of rule, reward_model and responder", "rule、reward_model、responder 须给出且只给出一个")
            )
        return self
