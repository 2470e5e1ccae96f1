"""The stages of control: rows that say what their answers are like, and whether a model obeys."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from luhuo.align.control.config import AttributeConfig, AttributeList
from luhuo.core.artifact import Workspace
from luhuo.core.config import Input, field
from luhuo.core.stage import Stage


class ControlStage(Stage):
    """Control by attributes (CTRL, Keskar et al. 2019; SteerLM, Dong et al. 2023): tells in each row what its answers
    are like (length, language, form, quality, any column), so that after `sft` on it an answer can be asked to be like
    that, in the system message. What it writes is data like any other."""

    resumable: ClassVar[bool] = True

    data: list[Input] | Input = field(..., "File or files of conversations.", "对话文件（一个或多个）。")
    attributes: list[AttributeConfig] = field(
        ..., "What is told: [{kind: length}, {kind: column, name: style, key: style}].", "要标注的属性列表。",
        min_length=1,
    )  # fmt: skip
    without: float = field(
        0.1, "Share of the rows that get no control at all.", "完全不加控制文本的行所占比例。", ge=0, lt=1
    )
    order: Literal["fixed", "random"] = field(
        "fixed",
        "Attributes stand in the order of this list, or in any: then they can be asked for in any.",
        "属性按此列表的顺序给出，或随机顺序（则使用时顺序任意）。",
    )
    missing: Literal["omit", "reject"] = field(
        "omit",
        "A row of which an attribute is unknown: tell the others, or leave the row out.",
        "某属性未知的行：只标注其余属性，或剔除该行。",
    )
    plain: bool = field(
        False,
        "Rows are plain text: the control stands in front of the prompt.",
        "数据为纯文本：控制文本放在提示之前。",
    )
    shuffle: bool = field(
        False,
        "Control experiment: what is told of a row is true of another one.",
        "对照实验：把各行的标注互相打乱。",
    )

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        AttributeList(attributes=self.attributes)
        return self

    def run(self, out: Workspace) -> None:
        """Read, classify and write, continuing what lies there."""
        from luhuo.align.control.write import write_control
        from luhuo.align.stages import note_sources

        note_sources(write_control(self, out), out)


class ControlScoresStage(Stage):
    """How often a model obeys: each prompt is asked with attributes drawn by chance and without any, and the answers
    are read as the stage `control` read the data. Columns cannot be read from an answer and are not asked for."""

    model: Input = field(..., "The model.", "模型。")
    prompts: list[Input] | Input = field(..., "File or files of held-out prompts.", "留出的提示文件（一个或多个）。")
    control: Input = field(..., "What the stage control made.", "control 阶段的结果。")
    ask: dict[str, list[str]] = field(
        {}, "Classes to ask for: {length: [short]}; none: all of each attribute.", "要求的类别；不设则为各属性的全部。"
    )
    limit: int = field(0, "Prompts asked, in a seeded order; 0: all.", "所问提示数（按种子打乱）；0 为全部。", ge=0)
    temperature: float = field(0.0, "Of sampling; 0: the likeliest answer.", "采样温度；0 为最可能的回答。", ge=0)
    max_tokens: int = field(128, "Most tokens of an answer.", "回答的最多词元数。", ge=1)
    at_once: int = field(64, "Answers that are written at the same time.", "同时生成的回答数。", ge=1)
    device: str = field("auto", "cpu, cuda, mps or auto.", "cpu、cuda、mps 或 auto。")
    dtype: str = field("auto", "fp32, bf16 or auto.", "fp32、bf16 或 auto。")
    threads: int = field(0, "CPU threads; 0: one a core.", "CPU 线程数；0 为每核一个。", ge=0)

    def run(self, out: Workspace) -> None:
        """Ask, read and count."""
        from luhuo.align.control.scores import score_control
        from luhuo.core.device import use_threads

        use_threads(self.threads)
        score_control(self, out)
