"""The stage `rejection`: several answers a prompt, scored; the best become data to learn from."""

from __future__ import annotations

from typing import ClassVar, Literal

from luhuo.align.rewards.config import RewardConfig
from luhuo.core.artifact import Workspace
from luhuo.core.config import Input, field
from luhuo.core.stage import Stage


class RejectionStage(Stage):
    """Best of n (rejection sampling; RAFT, Dong et al. 2023): a model answers each prompt n times, rewards score the
    answers, and what is good becomes conversations for `sft`, pairs for `dpo`, and rankings for `rrhf`."""

    resumable: ClassVar[bool] = True

    model: Input = field(..., "The model that answers.", "作答的模型。")
    prompts: list[Input] | Input = field(
        ..., "File or files of prompts, with what the rewards need.", "提示文件（一个或多个），含奖励所需的字段。"
    )
    system: str = field("", "System message of conversations that have none.", "无系统消息的对话所用的系统消息。")
    rewards: list[RewardConfig] = field(
        ..., "What an answer is scored by: [{kind: check}, …].", "评分所用的奖励：[{kind: check}, …]。", min_length=1
    )
    samples: int = field(8, "Answers to each prompt.", "每个提示的回答数。", ge=1)
    keep: Literal["best", "all"] = field(
        "best",
        "Of a prompt's answers over min_score: the best one (RAFT), or all that differ.",
        "得分达到 min_score 的回答：只取最佳（RAFT），或取全部不同者。",
    )
    min_score: float | None = field(
        None, "Least score of an answer to learn from; null: any.", "可供学习的最低得分；null 为不限。"
    )
    temperature: float = field(1.0, "Of sampling.", "采样温度。", ge=0.01)
    max_tokens: int = field(256, "Most tokens of an answer.", "回答的最多词元数。", ge=1)
    at_once: int = field(64, "Answers that are written at the same time.", "同时生成的回答数。", ge=1)
    limit: int = field(0, "Prompts asked, in a seeded order; 0: all.", "所问提示数（按种子打乱）；0 为全部。", ge=0)
    device: str = field("auto", "cpu, cuda, mps or auto.", "cpu、cuda、mps 或 auto。")
    dtype: str = field("auto", "fp32, bf16 or auto.", "fp32、bf16 或 auto。")
    threads: int = field(0, "CPU threads; 0: one a core.", "CPU 线程数；0 为每核一个。", ge=0)

    def run(self, out: Workspace) -> None:
        """Sample, score and choose, continuing what lies there."""
        from luhuo.align.best_of_n import run_rejection
        from luhuo.core.device import use_threads

        use_threads(self.threads)
        run_rejection(self, out)
