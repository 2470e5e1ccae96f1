"""What a task file may say. Every key is here; an unknown or missing one is an error that names it.

Texts with `{{ }}` are Jinja templates over the fields of one item; what is called an expression is the inside of
such braces alone, and keeps its type (a list, a number). Both run in a sandbox.
"""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from luhuo.core.config import Config, field
from luhuo.core.language import tr

Kind = Literal["choice", "continuation", "text", "generation", "custom"]
"""What is asked of the model: which of several continuations is likeliest (choice), how likely one continuation is
(continuation) or a whole text is (text: rolling log-likelihood), to write (generation), or whatever the task's Python
file does (custom)."""
CHOICE_METRICS = ("acc", "acc_norm", "acc_bytes", "acc_tokens", "acc_mutual_info", "mass")


class Words(Config):
    """One line in both languages."""

    en: str = field(..., "English.", "英文。")
    zh: str = field(..., "Chinese.", "中文。")

    @property
    def text(self) -> str:
        """In the user's language."""
        return tr(self.en, self.zh)


class Layout(Config):
    """One way in which the files of a data set may lie in a folder."""

    files: dict[str, str] = field(
        ..., "Glob of each split's files, below the folder.", "各划分的文件通配（相对数据目录）。"
    )
    columns: list[str] = field([], "Names of the columns of CSV files without a header.", "无表头 CSV 文件的列名。")
    fields: dict[str, str] = field(
        {},
        "Expressions that make fields of an item from a row; `file` is the file's name without endings, `folder` "
        "that of its folder.",
        "由行生成题目字段的表达式；`file` 为不含后缀的文件名，`folder` 为所在目录名。",
    )


class Data(Config):
    """Where items come from."""

    layouts: list[Layout] = field(
        [], "Tried in order: the first whose files are there.", "按顺序尝试，取文件存在的第一个。"
    )
    hub: str | None = field(
        None, "Taken where no folder is given: hf: or ms: of a data set.", "未给数据目录时使用：hf: 或 ms: 数据集。"
    )
    made: bool = field(
        False, "The Python file makes the items: no data is needed.", "题目由 Python 文件生成，不需要数据。"
    )


class Shots(Config):
    """Solved examples in front of the question."""

    count: int = field(0, "How many, unless the user says otherwise.", "默认示例数。", ge=0)
    split: str = field("train", "Which split they come from.", "取自哪个划分。")
    order: Literal["first", "random"] = field(
        "first", "The first ones, or drawn for each item by its seed.", "取前几个，或按种子为每题抽取。"
    )
    by: str | None = field(
        None, "Expression: examples have the same value as the item.", "表达式：示例与题目的值相同。"
    )
    examples: list[dict[str, Any]] = field([], "The examples themselves, instead of a split.", "直接给出的示例。")
    separator: str = field("\n\n", "Stands behind each example.", "每个示例之后的分隔。")
    prompt: str | None = field(None, "Template of an example's question, if it differs.", "示例问题的模板（若不同）。")
    answer: str | None = field(
        None, "Template of an example's answer; by default the right choice, or `reference`.", "示例答案的模板。"
    )


class Generation(Config):
    """How replies are written."""

    max_tokens: int = field(256, "Most tokens of a reply.", "回复的最多词元数。", ge=1)
    stop: list[str] = field([], "Texts that end a reply.", "结束回复的文本。")
    temperature: float = field(0.0, "0 is greedy.", "0 为贪心。", ge=0)
    samples: int = field(1, "Replies to each item (self-consistency, pass@k).", "每题的回复数。", ge=1)


class Extraction(Config):
    """How the answer is found in a reply."""

    pattern: str = field(
        ..., "Regular expression; its first matching group is the answer.", "正则表达式；首个匹配组为答案。"
    )
    pick: Literal["first", "last"] = field("first", "Which match counts.", "取第一个还是最后一个匹配。")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"{tr('no regular expression', '不是正则表达式')}: {error}") from None
        return value


class Match(Config):
    """When an extracted answer equals the reference."""

    ignore: list[str] = field(
        [], "Regular expressions of what is removed from both.", "比较前从两边删去的正则表达式。"
    )
    case: bool = field(False, "Capital letters count.", "区分大小写。")
    punctuation: bool = field(True, "Punctuation counts.", "计入标点。")


class TaskSpec(Config):
    """A task file."""

    task: str = field(..., "Name.", "名称。", pattern=r"^[a-z0-9_]+$")
    version: int = field(..., "Raised whenever scores may change.", "分数可能改变时递增。", ge=1)
    summary: Words = field(..., "What it measures.", "测量什么。")
    languages: list[str] = field(..., "en, zh, …", "en、zh 等。", min_length=1)
    licence: str = field(..., "Of the data.", "数据的许可证。")
    source: str = field(..., "Where prompt and scoring come from.", "提示与评分的出处。")
    kind: Kind = field(..., "What is asked of the model.", "向模型请求什么。")
    data: Data = field(..., "Where items come from.", "题目来源。")
    split: str = field("test", "Which split is asked.", "评测哪个划分。")

    description: str = field("", "Template of what stands before everything else.", "最前面的说明模板。")
    prompt: str | None = field(None, "Template of the question.", "问题模板。")
    prompts: str | None = field(
        None,
        "Expression: one prompt a choice, all with the same `continuation`.",
        "表达式：每个选项一个提示，续文相同。",
    )
    turns: str | None = field(
        None, "Expression: list of user turns, asked one after the other.", "表达式：依次提问的用户轮次。"
    )
    delimiter: str = field(" ", "Between prompt and continuation.", "提示与续文之间。")
    choices: str | list[str] | None = field(
        None, "The continuations: a list, or an expression.", "选项：列表或表达式。"
    )
    answer: str | None = field(
        None,
        "Expression: number of the right choice (or the choice itself); a list of 0 and 1 where several are right.",
        "表达式：正确选项的序号（或选项本身）；多个正确时为 0/1 列表。",
    )
    continuation: str | None = field(
        None, "Template of what is scored behind the prompt.", "提示之后被打分的文本模板。"
    )
    reference: str | None = field(
        None, "Template of the right answer of a generated reply.", "生成回复的参考答案模板。"
    )
    text: str | None = field(None, "Template of the text whose likelihood is measured.", "测量似然的文本模板。")
    original: str | None = field(
        None, "Template of the text whose words and bytes are counted (default: `text`).", "统计词数与字节的文本模板。"
    )

    subject: str | None = field(None, "Expression: what scores are broken down by.", "表达式：按此细分得分。")
    group: str | None = field(None, "Expression: a coarser division.", "表达式：更粗的划分。")
    language: str | None = field(
        None, "Expression: the item's language, where there are several.", "表达式：题目语言。"
    )

    shots: Shots = field(Shots(), "Examples.", "示例。")
    generation: Generation = field(Generation(), "How replies are written.", "如何生成回复。")
    extract: dict[str, Extraction] = field({}, "Ways to find the answer in a reply.", "从回复中提取答案的方式。")
    match: Match = field(Match(), "When answers are equal.", "何时算相等。")
    metrics: list[str] = field(
        ..., "Shown in tables, the headline first.", "表格中的指标，首要指标在前。", min_length=1
    )
    lower_is_better: list[str] = field([], "Metrics of which less is better.", "越小越好的指标。")
    chance: float | None = field(None, "Score of guessing, where it does not follow from the choices.", "随机水平。")
    python: str | None = field(
        None, "Module (or file beside this one) with functions of its own.", "自带函数的模块（或同目录文件）。"
    )

    example: dict[str, Any] = field({}, "A row made up for this file, to show the task.", "用于展示任务的自拟题目。")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [name for name in NEEDED[self.kind] if not self.python and getattr(self, name) is None]
        if self.kind == "choice" and self.prompts and "prompt" in missing:
            missing.remove("prompt")
            missing = [name for name in missing if name != "choices"]
            missing += ["continuation"] if self.continuation is None else []
        if self.kind == "custom" and not self.python:
            missing.append("python")
        if missing:
            raise ValueError(
                tr(f"a task of kind {self.kind} needs: ", f"类型 {self.kind} 的任务需要：") + ", ".join(missing)
            )
        if not self.data.layouts and not self.data.made:
            raise ValueError(tr("data needs layouts, or made: true", "data 需要 layouts，或 made: true"))
        unknown = [m for m in self.metrics if self.kind == "choice" and not self.python and m not in CHOICE_METRICS]
        if unknown:
            raise ValueError(
                tr("a choice has no such metric: ", "选择题没有这些指标：")
                + f"{', '.join(unknown)} ({', '.join(CHOICE_METRICS)})"
            )
        return self


NEEDED: dict[str, tuple[str, ...]] = {
    "choice": ("prompt", "choices", "answer"),
    "continuation": ("prompt", "continuation"),
    "text": ("text",),
    "generation": ("prompt", "reference"),
    "custom": (),
}
"""What a task of each kind cannot do without, unless its Python file has it."""


class Group(Config):
    """A file that names several tasks; their scores get a micro and a macro mean."""

    group: str = field(..., "Name.", "名称。", pattern=r"^[a-z0-9_]+$")
    version: int = field(..., "Raised whenever its tasks change.", "任务变动时递增。", ge=1)
    summary: Words = field(..., "What it measures.", "测量什么。")
    tasks: list[str] = field(..., "Names of tasks.", "任务名。", min_length=1)
