"""The stage `instructions`: labelled data to conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from luhuo.core.config import Input, field
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace


class InstructionsStage(Stage):
    """Make conversations of labelled data through templates in several wordings (Flan style)."""

    data: list[Input] = field(..., "Files of labelled rows.", "带标签的数据文件。", min_length=1)
    templates: str = field(
        ...,
        "Name of a set of templates (classification, qa, choice, …), or a YAML file.",
        "模板集名称（classification、qa、choice 等）或 YAML 文件。",
    )
    fields: dict[str, str] = field(
        {},
        "What the templates call a field -> what the data calls it; dots go deeper.",
        "模板中的字段名 -> 数据中的字段名；点号进入下层。",
    )
    labels: dict[str, str] = field(
        {}, "Labels of the data -> what they are called in words.", "数据中的标签 -> 文字说法。"
    )
    lang: Literal["en", "zh", "auto"] = field(
        "auto", "Language of the wordings; auto: of the row.", "模板语言；auto 按数据判断。"
    )
    wordings: int = field(1, "Wordings made of each row, drawn by seed.", "每条数据使用的表述数（按种子抽取）。", ge=1)
    inverted: float = field(
        0.1,
        "Share of rows whose task is turned round as well (write the question to an answer).",
        "同时生成反向任务（由答案写问题）的比例。",
        ge=0,
        le=1,
    )

    def run(self, out: Workspace) -> None:
        """Write `instructions.jsonl` (messages, with template and source row), `dropped.jsonl` and `report.json`."""
        from luhuo.dialogue.instructions.convert import convert

        convert(self, out)
