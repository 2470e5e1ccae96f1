"""The stages `contamination` and `membership`: is the test in the training text, and does the model know it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from luhuo.core.config import Input, field
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace


class ContaminationStage(Stage):
    """How much of each test item stands in training text."""

    train: Input = field(
        ...,
        "Training text: a corpus, shards, a file, a folder, rows of any layout.",
        "训练文本：语料、分片、文件、目录或任意布局的数据行。",
    )
    tokenizer: Input | None = field(
        None, "Of shards, which hold numbers only.", "分片所用的分词器（分片中只有编号）。"
    )
    tasks: list[str] = field(..., "Benchmarks (luhuo tasks), or task files.", "评测任务（luhuo tasks），或任务文件。")
    data: dict[str, Input] = field(
        {},
        "Folder or reference with the data of each task, or group of tasks.",
        "每个任务（或任务组）的数据目录或引用。",
    )
    limit: int | None = field(None, "Most items a task, chosen by seed.", "每个任务最多题数（按种子选取）。", ge=1)
    words: int = field(13, "Words of an n-gram.", "n-gram 的词数。", ge=4, le=100)
    han: int = field(13, "Han characters of an n-gram.", "n-gram 的汉字数。", ge=4, le=100)
    common: int = field(
        10,
        "N-grams in more documents than this say nothing of the test.",
        "出现在更多文档中的 n-gram 不作为证据。",
        ge=1,
    )
    evaluation: Input | None = field(
        None,
        "An evaluation of these tasks: its scores on clean and on other items, side by side.",
        "这些任务的评测产物：并列给出干净题目与其余题目上的得分。",
    )

    def run(self, out: Workspace) -> None:
        """Write `contamination.json` (counts by task) and `items.jsonl` (each item that is not clean)."""
        from luhuo.evaluation.contamination_run import check

        check(self, out)


class MembershipStage(Stage):
    """Whether a model tells texts it may have been trained on from held-out twins (Min-K%, Min-K%++, loss, zlib)."""

    model: Input = field(..., "Model directory.", "模型目录。")
    members: Input = field(..., "Texts that may have been seen.", "可能训练过的文本。")
    twins: Input = field(
        ..., "Texts of the same source that were held out.", "同一来源、确定未参与训练的文本（对照）。"
    )
    limit: int = field(500, "Most texts of each.", "每组最多文本数。", ge=2)
    share: float = field(0.2, "Share of the lowest tokens.", "取最低词元的比例。", gt=0, le=1)
    dtype: str = field("auto", "Number format: auto, fp32, bf16 or fp16.", "数值格式：auto、fp32、bf16 或 fp16。")
    device: str = field("auto", "auto, cpu, cuda or mps.", "auto、cpu、cuda 或 mps。")

    def run(self, out: Workspace) -> None:
        """Write `membership.json`: of each method the area under the ROC curve with its interval and p-value."""
        from luhuo.evaluation.contamination_run import tell_apart

        tell_apart(self, out)
