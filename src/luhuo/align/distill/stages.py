"""The stages of distillation: `teacher-answers`, `teacher-logits`, `distill` and `online-distill`.

They are stages of their own because what a teacher says is made once, costs the most, and serves many students: its
answers are data for `sft`, its logits for `distill`. Who learns while the teacher reads along is `distill` on given
texts, `online-distill` on the student's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator

from luhuo.align.distill.config import LessonConfig, TeacherFormat
from luhuo.align.sft_fields import DataSet
from luhuo.align.stages import SftStage
from luhuo.core.config import Input, field
from luhuo.core.language import tr
from luhuo.core.stage import Stage

if TYPE_CHECKING:
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
