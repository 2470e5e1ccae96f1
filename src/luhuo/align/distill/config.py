"""Settings of distillation."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from luhuo.core.config import Config, Input, field
from luhuo.core.language import tr

TeacherFormat = Literal["auto", "fp32", "bf16", "int8", "int4"]


class DivergenceConfig(Config):
    """What is compared of the two distributions over the next token."""

    divergence: Literal["forward", "reverse", "jsd"] = field(
        "forward",
        "forward KL (cover the teacher), reverse KL (say nothing it would not), or jsd between them.",
        "forward：前向 KL（覆盖教师）；reverse：反向 KL（不说教师不会说的）；jsd 介于二者之间。",
    )
    beta: float = field(
        0.5, "Of jsd: near 0 as forward, near 1 as reverse.", "jsd 的系数：近 0 似前向，近 1 似反向。", gt=0, lt=1
    )
    distill_temperature: float = field(
        1.0,
        "Both models' logits are divided by this before they are compared (Hinton's temperature).",
        "比较之前两个模型的 logits 都除以它（Hinton 的温度）。",
        ge=0.05,
    )


class StatesConfig(Config):
    """Hidden states that are to be like the teacher's."""

    weight: float = field(1.0, "Weight in the loss.", "在损失中的权重。", gt=0)
    layers: Literal["uniform", "last"] | dict[int, int] = field(
        "uniform",
        "uniform (every layer, spread over the teacher's), last, or {student's: teacher's}; 0 are the embeddings.",
        "uniform（每层，均匀对应教师各层）、last，或 {学生层: 教师层}；0 为嵌入。",
    )
    loss: Literal["mse", "cosine"] = field(
        "mse",
        "Squared difference (TinyBERT) or 1 - cosine (DistilBERT).",
        "平方差（TinyBERT）或 1 - 余弦（DistilBERT）。",
    )


class AttentionConfig(Config):
    """Attention that is to be like the teacher's."""

    kind: Literal["scores", "relations"] = field(
        "relations",
        "scores (TinyBERT: needs equally many heads), or relations among queries, keys and values (MiniLM).",
        "scores（TinyBERT，要求头数相同），或 relations：查询、键、值各自之间的关系（MiniLM）。",
    )
    weight: float = field(1.0, "Weight in the loss.", "在损失中的权重。", gt=0)
    layers: Literal["uniform", "last"] | dict[int, int] = field(
        "last", "As for hidden states, from 1.", "同隐藏状态，从 1 起。"
    )
    relation_heads: int = field(
        0,
        "Heads that relations are split into; 0: the student's key heads.",
        "关系所分的头数；0 为学生的键头数。",
        ge=0,
    )


class LessonConfig(DivergenceConfig):
    """Where the teacher's words come from, and what they count."""

    teacher: Input | None = field(
        None, "The teacher: any reference of a model; it is not trained.", "教师：任意模型引用；不会被训练。"
    )
    stored: Input | None = field(
        None,
        "Output of stage teacher-logits instead of a teacher; the temperature is then its own.",
        "以 teacher-logits 阶段的输出代替教师；温度以其为准。",
    )
    share: float = field(
        0.5,
        "Of the teacher in the loss; the rest is the data's own.",
        "损失中教师所占份额；其余为数据本身。",
        ge=0,
        le=1,
    )
    teacher_dtype: TeacherFormat = field("auto", "Number format of the teacher.", "教师的数值格式。")
    states: StatesConfig | None = field(
        None,
        "Match hidden states too: {weight: 1, layers: uniform}.",
        "同时匹配隐藏状态：{weight: 1, layers: uniform}。",
    )
    attention: AttentionConfig | None = field(
        None,
        "Match attention too: {kind: relations, layers: last}.",
        "同时匹配注意力：{kind: relations, layers: last}。",
    )

    @model_validator(mode="after")
    def _one_teacher(self) -> Self:
        if (self.teacher is None) == (self.stored is None):
            raise ValueError(tr("give teacher or stored, one of both", "teacher 与 stored 须给出且仅给出一个"))
        if self.stored is not None and (self.states or self.attention):
            raise ValueError(
                tr(
                    "stored logits have no states or attention: give a teacher",
                    "所存 logits 不含隐藏状态与注意力：请给出 teacher",
                )
            )
        if self.share == 0 and not (self.states or self.attention):
            raise ValueError(
                tr(
                    "with share 0 and no states or attention nothing is learned from the teacher",
                    "share 为 0 且不匹配隐藏状态与注意力时，学不到教师的任何东西",
                )
            )
        return self
