"""The stages `teacher-answers`, `teacher-logits`, `distill`, `online-distill`; `pretrain-distill` is beside them.

They are stages of their own because what a teacher says is made once, costs the most, and serves many students: its
answers are data for `sft`, its logits for `distill`. Who learns while the teacher reads along is `distill` on given
texts, `online-distill` on the student's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator

from luhuo.align.distill.config import DivergenceConfig, LessonConfig, TeacherFormat
from luhuo.align.distill.endpoint_config import EndpointConfig
from luhuo.align.rewards.config import RewardConfig
from luhuo.align.rollout_stage import RolloutStage
from luhuo.align.sft_fields import DataSet
from luhuo.align.stages import SftStage
from luhuo.core.config import Input, field
from luhuo.core.language import tr
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    import torch

    from luhuo.core.artifact import Workspace
    from luhuo.train.config import TrainerConfig


class DistillStage(LessonConfig, SftStage):
    """Knowledge distillation on conversations or plain text: a student learns what its teacher holds likely at every
    target, and, if asked, to have its hidden states and attention."""

    version: ClassVar[int] = 1

    @model_validator(mode="after")
    def _whole_copies(self) -> Self:
        divided = [name for name in ("fsdp", "tp", "ep") if getattr(self.parallel, name) != 1]
        if divided and (self.states or self.attention):
            raise ValueError(
                tr(
                    f"parallel.{divided[0]}: states and attention are matched on whole models; use parallel.dp",
                    f"parallel.{divided[0]}：匹配隐藏状态与注意力需要完整的模型；请使用 parallel.dp",
                )
            )
        return self

    def trainer_config(self, **changes: object) -> TrainerConfig:
        """The settings of the training loop; what attention reads is not seen inside of compiled blocks."""
        return super().trainer_config(**({"compile": "none"} if self.attention else {}) | changes)

    def run(self, out: Workspace) -> None:
        """Train, resuming from the last checkpoint if there is one, and write a model directory or an adapter."""
        from luhuo.align.distill.run import distill
        from luhuo.core.device import use_threads
        from luhuo.train.parallel import processes

        use_threads(self.threads)
        with processes(self.device, self.parallel) as device:
            distill(self, out, device)


class TeacherLogitsStage(Stage):
    """A teacher reads conversations or plain text once, and what it holds likeliest at every target is kept, so that
    `distill` needs no teacher in memory."""

    resumable: ClassVar[bool] = True

    teacher: Input = field(..., "The teacher: any reference of a model.", "教师：任意模型引用。")
    student: Input | None = field(
        None,
        "The student, or its tokenizer: the data are rendered with it; null: the teacher's.",
        "学生模型或其分词器：数据以它渲染；null 为教师的。",
    )
    data: list[Input | DataSet] | Input = field(
        ..., "Conversations or texts, as for stage distill.", "对话或文本，同 distill 阶段。"
    )
    length: int = field(512, "Tokens of a row, as for stage distill.", "打包行的词元数，同 distill 阶段。", ge=8)
    overlong: Literal["truncate", "drop"] = field("truncate", "As for stage distill.", "同 distill 阶段。")
    turns: Literal["all", "last"] = field("all", "As for stage distill.", "同 distill 阶段。")
    plain: bool = field(False, "As for stage distill.", "同 distill 阶段。")
    k: int = field(
        64,
        "Likeliest tokens kept at each target; the mass of the others is kept in one number.",
        "每个目标处保存的最可能词元数；其余概率之和存为一个数。",
        ge=1,
    )
    distill_temperature: float = field(
        1.0,
        "Logits are divided by this; stage distill then does so too.",
        "logits 除以它；distill 阶段随之。",
        ge=0.05,
    )
    kept: Literal["fp16", "fp32"] = field("fp16", "Number format of what is kept.", "保存的数值格式。")
    shard_targets: int = field(500_000, "Targets of a file, at least.", "每个文件至少含的目标数。", ge=1)
    teacher_dtype: TeacherFormat = field("auto", "Number format of the teacher.", "教师的数值格式。")
    device: str = field("auto", "cpu, cuda, mps or auto.", "cpu、cuda、mps 或 auto。")
    threads: int = field(0, "CPU threads; 0: one a core.", "CPU 线程数；0 为每核一个。", ge=0)

    def run(self, out: Workspace) -> None:
        """Write header and shards, continuing what lies there."""
        from luhuo.align.distill.storing import store_logits
        from luhuo.core.device import pick_device, use_threads

        use_threads(self.threads)
        store_logits(self, out, pick_device(self.device))


class TeacherAnswersStage(Stage):
    """Sequence-level distillation (Kim and Rush 2016): a teacher answers prompts, and its answers become conversations
    for `sft`. Teacher and student may have different tokenizers: between them is text."""

    resumable: ClassVar[bool] = True

    teacher: Input | None = field(None, "A model that answers here.", "在本机作答的模型。")
    endpoint: EndpointConfig | None = field(
        None,
        "An OpenAI-compatible server that answers instead: {url: …, model: …, key_from: OPENAI_API_KEY}.",
        "改由 OpenAI 兼容的服务器作答：{url: …, model: …, key_from: OPENAI_API_KEY}。",
    )
    prompts: list[Input] | Input = field(
        ..., "File or files of prompts, with what the rewards need.", "提示文件（一个或多个），含奖励所需的字段。"
    )
    system: str = field("", "System message of conversations that have none.", "无系统消息的对话所用的系统消息。")
    samples: int = field(1, "Answers to each prompt.", "每个提示的回答数。", ge=1)
    temperature: float = field(0.0, "Of sampling; 0: greedy.", "采样温度；0 为贪心。", ge=0)
    max_tokens: int = field(512, "Most tokens of an answer.", "回答的最多词元数。", ge=1)
    rewards: list[RewardConfig] = field(
        [],
        "What answers are scored by: [{kind: check}]; none: all are kept.",
        "评分所用的奖励：[{kind: check}]；无则全部保留。",
    )
    keep: Literal["best", "all"] = field(
        "best", "Of a prompt's answers: the best one, or all that differ.", "每个提示保留最佳回答，或全部不同者。"
    )
    min_score: float | None = field(
        None, "Least score of an answer to learn from; null: any.", "可供学习的最低得分；null 为不限。"
    )
    limit: int = field(0, "Prompts asked, in a seeded order; 0: all.", "所问提示数（按种子打乱）；0 为全部。", ge=0)
    at_once: int = field(64, "Answers that are written here at the same time.", "在本机同时生成的回答数。", ge=1)
    device: str = field("auto", "cpu, cuda, mps or auto.", "cpu、cuda、mps 或 auto。")
    dtype: TeacherFormat = field("auto", "Number format of the teacher.", "教师的数值格式。")
    threads: int = field(0, "CPU threads; 0: one a core.", "CPU 线程数；0 为每核一个。", ge=0)

    @model_validator(mode="after")
    def _one_teacher(self) -> Self:
        if (self.teacher is None) == (self.endpoint is None):
            raise ValueError(tr("give teacher or endpoint, one of both", "teacher 与 endpoint 须给出且仅给出一个"))
        if self.min_score is not None and not self.rewards:
            raise ValueError(tr("min_score needs rewards", "min_score 需要 rewards"))
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                tr("greedy answers are all the same: raise temperature", "贪心回答彼此相同：请提高 temperature")
            )
        return self

    def run(self, out: Workspace) -> None:
        """Ask what is not answered yet, and choose."""
        from luhuo.align.distill.answers import answer
        from luhuo.core.device import use_threads

        use_threads(self.threads)
        answer(self, out)


class OnlineDistillStage(DivergenceConfig, RolloutStage):
    """On-policy distillation: the student answers prompts, and the teacher says about every token what it would have
    written there. So the student learns what to do where its own words lead it, not where the teacher's would."""

    method: Literal["gkd", "minillm"] = field(
        "gkd",
        "gkd (divergence at each token) or minillm (reverse KL of whole answers, by policy gradient).",
        "gkd（逐词元的散度）或 minillm（整条回答的反向 KL，策略梯度）。",
    )
    teacher: Input = field(..., "The teacher: any reference of a model.", "教师：任意模型引用。")
    teacher_dtype: TeacherFormat = field("auto", "Number format of the teacher.", "教师的数值格式。")
    divergence: Literal["forward", "reverse", "jsd"] = field(
        "jsd", "Of gkd: forward KL, reverse KL, or jsd between them.", "gkd 所用：前向 KL、反向 KL 或二者之间的 jsd。"
    )
    on_policy: float = field(
        1.0,
        "Of gkd: share of the steps on the student's own answers (lambda); the others are on `data`.",
        "gkd：以学生自己的回答训练的步数比例（λ）；其余用 data。",
        ge=0,
        le=1,
    )
    data: list[Input | DataSet] | Input | None = field(
        None,
        "Given conversations: for the other steps of gkd, or learned from beside the samples by minillm.",
        "给定的对话：用于 gkd 的其余步，或由 minillm 与样本一同学习。",
    )
    data_weight: float = field(
        1.0, "Of minillm: weight of the given conversations' loss.", "minillm：给定对话损失的权重。", ge=0
    )
    data_batch: int = field(2048, "Of gkd: tokens of a step on `data`.", "gkd：每个 data 步的词元数。", ge=1)
    data_length: int = field(512, "Tokens of a row of `data`.", "data 每行的词元数。", ge=8)
    clip_ratio: float = field(
        0.2,
        "Of minillm: how far the ratio of new to old student may go.",
        "minillm：新旧学生概率比的裁剪幅度。",
        gt=0,
        lt=1,
    )
    rewards: list[RewardConfig] = field(
        [],
        "Only measured, not learned: [{kind: check}].",
        "仅测量，不参与学习：[{kind: check}]。",
    )
    samples: int = field(1, "Answers to each prompt.", "每个提示的回答数。", ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.batch_warmup:
            raise ValueError(tr("a round has one size: batch_warmup must be 0", "每轮大小固定：batch_warmup 须为 0"))
        if self.shuffle_rewards:
            raise ValueError(tr("nothing is learned from rewards here", "这里不从奖励学习"))
        if self.environment is not None:
            raise ValueError(
                tr("the teacher reads single answers: no environment", "教师只读单次回答：不支持 environment")
            )
        if self.method == "gkd" and (self.on_policy < 1) != (self.data is not None):
            raise ValueError(tr("data and on_policy below 1 go together", "data 与小于 1 的 on_policy 须同时给出"))
        return self

    def _run(self, out: Workspace, device: torch.device) -> None:
        from luhuo.align.distill.online import open_run

        trainer, student = open_run(self, out, device)
        told = ("loss", "divergence", "agreement", "reward", "length", "truncated", "tokens_per_s")
        self._finish(trainer, student, out, told, ("valid.", "reward."))
