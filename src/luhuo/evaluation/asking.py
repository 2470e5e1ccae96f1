"""How the tasks of an evaluation are asked: the settings that a user may change."""

from __future__ import annotations

from typing import Literal

from luhuo.align.ai_feedback.config import ResponderConfig
from luhuo.core.config import Config, field


class AskSettings(Config):
    """Settings of all tasks of one evaluation."""

    limit: int | None = field(None, "Most items a task, chosen by seed.", "每个任务最多题数（按种子选取）。", ge=1)
    shots: int | None = field(None, "Examples; the task's own number.", "示例数；默认按任务。", ge=0, le=64)
    mode: Literal["plain", "chat"] = field(
        "plain", "Plain text, or through the model's chat template.", "纯文本，或用模型的对话模板。"
    )
    shots_as: Literal["text", "turns"] = field(
        "text", "In chat mode: examples in one turn, or as turns.", "对话模式下示例放在一轮中，或作为多轮。"
    )
    system: str | None = field(None, "System message in chat mode.", "对话模式的系统消息。")
    samples: int | None = field(None, "Replies an item; the task's own number.", "每题回复数；默认按任务。", ge=1)
    temperature: float | None = field(
        None,
        "Of replies; the task's own, and 0.7 where several are asked of a greedy one.",
        "回复的温度；默认按任务，需多个回复而任务为贪心时取 0.7。",
        ge=0,
    )
    max_tokens: int | None = field(None, "Most tokens of a reply.", "回复的最多词元数。", ge=1)
    judge: ResponderConfig | None = field(
        None,
        "Who says which option a reply means, where rules cannot: {model: …} or {endpoint: {url, model}}; none: the "
        "model under test.",
        "规则认不出回复选了哪项时由谁判断：{model: …} 或 {endpoint: {url, model}}；不设则由被测模型自己判断。",
    )
    mutual_information: bool = field(
        False,
        "Score choices without their question too, for acc_mutual_info.",
        "另外给不带题目的选项打分，用于 acc_mutual_info。",
    )
    context: int | None = field(
        None, "Most tokens of prompt and answer; the model's.", "提示加回答的最多词元数；默认按模型。", ge=16
    )
    pass_tokens: int = field(4096, "Tokens of one pass over the model.", "一次前向计算的词元数。", ge=1, watch=True)
    weak: bool = field(
        False,
        "Run programs that models wrote also where the sandbox lacks protections.",
        "沙箱缺少防护时也运行模型编写的程序。",
        watch=True,
    )
    reuse: bool = field(True, "Take what is known from earlier runs.", "复用以往运行的结果。", watch=True)
