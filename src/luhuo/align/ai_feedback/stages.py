"""The stages of AI feedback: critique and revision, judged pairs, comparisons by assumption."""

from __future__ import annotations

from typing import ClassVar, Literal

from luhuo.align.ai_feedback.config import ResponderConfig
from luhuo.align.rewards.config import RewardConfig
from luhuo.core.artifact import Workspace
from luhuo.core.config import Config, Input, field
from luhuo.core.stage import Stage


class _FromPrompts(Stage):
    """What the stages share that ask models."""

    resumable: ClassVar[bool] = True

    prompts: list[Input] | Input = field(..., "File or files of prompts.", "提示文件（一个或多个）。")
    limit: int = field(0, "Prompts taken, from the first; 0: all.", "所取提示数（从头取）；0 为全部。", ge=0)
    together: int = field(32, "Prompts worked on at a time, and kept when done.", "每批处理并保存的提示数。", ge=1)
    threads: int = field(0, "CPU threads; 0: one a core.", "CPU 线程数；0 为每核一个。", ge=0)


class ConstitutionalStage(_FromPrompts):
    """Constitutional AI, the supervised half (Bai et al. 2022, section 3): a model answers, criticises its answer by a
    principle drawn by chance, and revises it, again and again. The last revisions are conversations for `sft`, and
    pairs for `dpo` and `reward` of which the revision is preferred to the first answer."""

    responder: ResponderConfig = field(..., "The model that answers: {model: …}.", "作答的模型：{model: …}。")
    critic: ResponderConfig | None = field(
        None, "The model that criticises and revises; none: the same.", "批评并修改的模型；不设则为同一模型。"
    )
    constitution: Input | None = field(
        None, "YAML file of principles; none: those that come with Luhuo.", "原则的 YAML 文件；不设则用自带的。"
    )
    rounds: int = field(2, "Critiques and revisions of each answer.", "每个回答的批评与修改次数。", ge=1)

    def run(self, out: Workspace) -> None:
        """Answer, criticise and revise, continuing what lies there."""
        from luhuo.align.ai_feedback.critique import run_constitutional
        from luhuo.core.device import use_threads

        use_threads(self.threads)
        run_constitutional(self, out)


class AiFeedbackStage(Stage):
    """Labels by a model instead of people (RLAIF: Bai et al. 2022, section 4.1; Lee et al. 2023): a judge says which
    of two answers is better by a principle drawn by chance, each pair in both orders, and how sure it is. Data may be
    pairs (labels in them are only compared with) or prompts with several `answers`."""

    resumable: ClassVar[bool] = True

    data: list[Input] | Input = field(
        ..., "File or files of pairs, or of prompts with answers.", "成对数据，或含多个回答的提示（一个或多个文件）。"
    )
    judge: ResponderConfig = field(..., "The model that judges: {model: …}.", "评判的模型：{model: …}。")
    constitution: Input | None = field(
        None, "YAML file of principles; none: those that come with Luhuo.", "原则的 YAML 文件；不设则用自带的。"
    )
    reasoning: bool = field(
        False, "The judge compares in words first, then says which.", "评判者先用文字比较，再作选择。"
    )
    tie: float = field(
        0.1,
        "A pair is dropped where the probability is nearer to one half than this.",
        "概率与 0.5 之差小于此值的对将被丢弃。",
        ge=0,
        lt=0.5,
    )
    limit: int = field(0, "Pairs taken, from the first; 0: all.", "所取对数（从头取）；0 为全部。", ge=0)
    together: int = field(32, "Pairs judged at a time, and kept when done.", "每批评判并保存的对数。", ge=1)
    threads: int = field(0, "CPU threads; 0: one a core.", "CPU 线程数；0 为每核一个。", ge=0)

    def run(self, out: Workspace) -> None:
        """Judge, continuing what lies there."""
        from luhuo.align.ai_feedback.labels import run_feedback
        from luhuo.core.device import use_threads

        use_threads(self.threads)
        run_feedback(self, out)


class Filters(Config):
    """What a comparison must be like to be kept (Kim et al. 2023, section 2.1, heuristic filter)."""

    longer: bool = field(
        True,
        "The better answer has at least the mean length of all answers less half a standard deviation.",
        "较好的回答不短于全部回答的平均长度减半个标准差。",
    )
    phrases: list[str] = field(
        ["I don't know", "As an AI", "我不知道", "作为一个人工智能"],
        "A better answer holds none of these.",
        "较好的回答不得含有这些话。",
    )
    repeated: float = field(
        0.3, "Most share of repeated 4-grams in a better answer.", "较好回答中重复四元组的最大占比。", ge=0, le=1
    )
    same_language: bool = field(
        True, "A better answer is in the language of its question.", "较好的回答须与提问使用同一语言。"
    )
    rewards: list[RewardConfig] = field(
        [], "The better answer must score higher by these.", "按这些奖励，较好的回答须得分更高。"
    )


class SyntheticComparisonsStage(_FromPrompts):
    """Synthetic comparisons (ALMoST, Kim et al. 2023): several models answer each prompt, of which it is assumed that
    each is better than the next (larger before smaller, more examples before fewer, a good instruction before a bad
    one). What passes the filters is preference data for `reward` and `dpo`."""

    responders: list[ResponderConfig] = field(
        ..., "The models, the best first: {model, system, shots}.", "模型列表，最好的在前：{model, system, shots}。",
        min_length=2,
    )  # fmt: skip
    pairs: Literal["all", "ends"] = field(
        "all", "Compare every two answers, or the best model's with the worst's.", "两两比较，或只比较最好与最差。"
    )
    filters: Filters = field(Filters(), "What a comparison must be like.", "比较须满足的条件。")

    def run(self, out: Workspace) -> None:
        """Answer and compare, continuing what lies there."""
        from luhuo.align.ai_feedback.comparisons import run_comparisons
        from luhuo.core.device import use_threads

        use_threads(self.threads)
        run_comparisons(self, out)
