"""The stage `clean-dialogue`: faults, repeats, choosing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from luhuo.core.config import Config, Input, field
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace


class Selection(Config):
    """Which of the clean rows are chosen."""

    by: Literal["diversity", "difficulty", "small"] = field(
        "diversity",
        "diversity: those that lie far apart (k-center); difficulty: the highest IFD; small: of the best by quality "
        "those that lie far apart (LIMA, Koala).",
        "diversity：彼此相距最远（k-center）；difficulty：IFD 最高；small：高质量者中彼此相距最远（LIMA、Koala）。",
    )
    count: int = field(..., "Rows to choose.", "选取的条数。", ge=1)
    pool: float = field(
        4.0,
        "small: how many times as many rows of the highest quality are chosen from.",
        "small：从高质量的几倍条数中选取。",
        ge=1,
    )


class CleanDialogueStage(Stage):
    """Drop faulty, repeated and contradictory rows of instruction data, and choose among the rest."""

    data: list[Input] = field(..., "Files of conversations, of any layout.", "对话文件（任意格式）。", min_length=1)
    keep: list[str] = field([], "Reasons that drop nothing (docs/dialogue-cleaning.md).", "不作为丢弃理由的原因代码。")
    near: bool = field(True, "Also drop questions that nearly repeat another.", "同时丢弃近似重复的问题。")
    harmful: dict[str, Input] = field(
        {},
        "Classifiers of harmful text by language, beside the lexicon (stage `classifier`).",
        "各语言的有害文本分类器，与内置词表并用（classifier 阶段的产物）。",
    )
    difficulty: Input | None = field(
        None,
        "Result of the stage `difficulty`: rows with an IFD of 1 and more are dropped.",
        "difficulty 阶段的产物：IFD 不小于 1 的条目将被丢弃。",
    )
    vectors: Input | None = field(
        None,
        "Embeddings of the questions: .npy, a row for each readable row of the data; none: hashed n-grams.",
        "问题的向量（.npy，与可读数据逐行对应）；不设则用散列 n-gram。",
    )
    select: Selection | None = field(None, "Choose among the clean rows.", "在干净条目中再选取。")

    @model_validator(mode="after")
    def _is_possible(self) -> CleanDialogueStage:
        from luhuo.dialogue.clean.reasons import REASONS

        for code in self.keep:
            if code not in REASONS:
                raise ValueError(f"keep: {code} is none of {', '.join(REASONS)}")
        if self.select is not None and self.select.by == "difficulty" and self.difficulty is None:
            raise ValueError("select by difficulty needs `difficulty`")
        return self

    def run(self, out: Workspace) -> None:
        """Write `data/` (rows as they were), `dropped.jsonl` (rows with their reasons) and `report.json`."""
        from luhuo.dialogue.clean.clean import clean

        clean(self, out)
